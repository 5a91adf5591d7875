"""What engines have in common that load a Hugging Face folder, whoever wrote it: its files, its weights through transformers, the time of
its tokenizer. What is wrong with one is a sentence (TextmillError "model_broken"), which names a file, a field or a weight and quotes none.
"""
