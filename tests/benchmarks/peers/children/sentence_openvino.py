"""sentence-transformers on OpenVINO: sorts by length itself. ``--option``: int8 (static), or float32, which is the reference."""

from typing import Any

from serving import MAX_TOKENS, Arguments, Embedding, serve

FILES = {"int8": "openvino_model_qint8_quantized.xml", "float32": "openvino_model.xml"}


def load(arguments: Arguments) -> Embedding:
    from sentence_transformers import SentenceTransformer

    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": str(arguments.threads), "PERFORMANCE_HINT": "LATENCY"}  # it runs one batch at a time
    if arguments.option == "float32":
        config["INFERENCE_PRECISION_HINT"] = "f32"  # not what the CPU would do faster
    model = SentenceTransformer(
        str(arguments.made / "openvino"),
        device="cpu",
        backend="openvino",
        model_kwargs={"file_name": f"openvino/{FILES[arguments.option]}", "ov_config": config},
    )
    model.max_seq_length = MAX_TOKENS
    return Embedding(
        lambda texts: model.encode(texts, batch_size=32, normalize_embeddings=True),
        batch_size=32,
        threads=arguments.threads,
        sorted=True,
        **config,
    )


if __name__ == "__main__":
    serve(load)
