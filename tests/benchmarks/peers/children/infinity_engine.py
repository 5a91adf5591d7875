"""infinity's asynchronous engine in this process, without its HTTP server. ``--option``: torch, or optimum (int8 on ONNX Runtime)."""

import asyncio

from serving import Arguments, Embedding, serve


def load(arguments: Arguments) -> Embedding:
    import numpy as np
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    int8 = arguments.option == "optimum"
    loop = asyncio.new_event_loop()
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path=str(arguments.made / "onnx" if int8 else arguments.model),
            engine=arguments.option,
            device="cpu",
            dtype="auto" if int8 else "float32",
            batch_size=32,
            bettertransformer=False,
            compile=False,
            model_warmup=False,
            vector_disk_cache=False,
        )
    )
    loop.run_until_complete(engine.astart())

    def embed(texts: list[str]):
        vectors, _ = loop.run_until_complete(engine.embed(texts))
        stacked = np.asarray(vectors, dtype=np.float32)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)

    return Embedding(embed, engine=arguments.option, batch_size=32, threads=arguments.threads)


if __name__ == "__main__":
    serve(load)
