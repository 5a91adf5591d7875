"""sentence-transformers on ONNX Runtime, int8 (its own dynamic quantisation): sorts by length itself."""

from serving import MAX_TOKENS, Arguments, Embedding, serve


def load(arguments: Arguments) -> Embedding:
    import onnxruntime
    from sentence_transformers import SentenceTransformer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    folder = arguments.made / "onnx"
    model = SentenceTransformer(
        str(folder),
        device="cpu",
        backend="onnx",
        model_kwargs={"provider": "CPUExecutionProvider", "file_name": "onnx/model_quantized.onnx", "session_options": options},
    )
    model.max_seq_length = MAX_TOKENS
    return Embedding(
        lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True),
        quantisation=(folder / "quantisation").read_text(),
        batch_size=32,
        threads=arguments.threads,
        sorted=True,
    )


if __name__ == "__main__":
    serve(load)
