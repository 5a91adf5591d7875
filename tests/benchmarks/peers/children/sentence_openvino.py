"""sentence-transformers on OpenVINO, static int8: sorts by length itself."""

from serving import MAX_TOKENS, Arguments, Embedding, serve


def load(arguments: Arguments) -> Embedding:
    from sentence_transformers import SentenceTransformer

    config = {"INFERENCE_NUM_THREADS": str(arguments.threads), "PERFORMANCE_HINT": "LATENCY"}  # it runs one batch at a time
    model = SentenceTransformer(
        str(arguments.made / "openvino"),
        device="cpu",
        backend="openvino",
        model_kwargs={"file_name": "openvino/openvino_model_qint8_quantized.xml", "ov_config": config},
    )
    model.max_seq_length = MAX_TOKENS
    return Embedding(
        lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True), batch_size=32, threads=arguments.threads, sorted=True, **config
    )


if __name__ == "__main__":
    serve(load)
