"""vLLM's pooling runner on the CPU, bf16: continuous batches, no padding."""

import os

from serving import MAX_TOKENS, Arguments, Embedding, serve


def load(arguments: Arguments) -> Embedding:
    os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_NO_USAGE_STATS="1", DO_NOT_TRACK="1")
    import numpy as np
    from tokenizers import Tokenizer
    from vllm import LLM

    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)  # vLLM refuses a longer text

    llm = LLM(model=str(arguments.model), runner="pooling", dtype=arguments.option, max_model_len=MAX_TOKENS, enforce_eager=False)

    def embed(texts: list[str]):
        prompts = [{"prompt_token_ids": encoding.ids} for encoding in tokenizer.encode_batch_fast(texts)]
        answers = llm.embed(prompts, use_tqdm=False)
        return np.array([answer.outputs.embedding for answer in answers], np.float32)

    return Embedding(embed, dtype=arguments.option, threads=arguments.threads)


if __name__ == "__main__":
    serve(load)
