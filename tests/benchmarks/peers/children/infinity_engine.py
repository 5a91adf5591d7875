"""infinity's asynchronous engine in this process, without its HTTP server. ``--option``: torch, or optimum (int8 on ONNX Runtime). It sorts
what waits by length."""

import asyncio
import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

from serving import MAX_TOKENS, Arguments, Embedding, serve


def cut_where_the_model_does(onnx: Path, folder: Path) -> None:
    """Its ONNX engine cuts texts at max_position_embeddings, which is twice what the model was trained for and all others read; the graph
    holds the positions itself, so only the cut follows this number."""
    shutil.copytree(onnx, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors", "onnx"))
    shutil.copy(onnx / "onnx" / "model_quantized.onnx", folder)  # at the top: optimum finds no path with a folder in it
    for config in folder.rglob("config.json"):
        told = json.loads(config.read_text())
        if "max_position_embeddings" in told:
            config.write_text(json.dumps({**told, "max_position_embeddings": MAX_TOKENS}))


def load(arguments: Arguments) -> Embedding:
    import numpy as np
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    int8 = arguments.option == "optimum"
    loop = asyncio.new_event_loop()
    if int8:
        made = tempfile.mkdtemp(prefix="infinity-")
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        cut_where_the_model_does(arguments.made / "onnx", Path(made))
        os.chdir(made)  # it names the graph by its path from here, and optimum takes a bare name only
    engine = AsyncEmbeddingEngine.from_args(
        EngineArgs(
            model_name_or_path="." if int8 else str(arguments.model),
            engine=arguments.option,
            device="cpu",
            dtype="auto" if int8 else "float32",
            batch_size=32,
            bettertransformer=False,
            compile=False,
            model_warmup=False,
            pooling_method="mean",
            onnx_disable_optimize=int8,  # a quantised graph is optimised already
        )
    )
    loop.run_until_complete(engine.astart())

    def embed(texts: list[str]):
        vectors, _ = loop.run_until_complete(engine.embed(texts))
        stacked = np.asarray(vectors, dtype=np.float32)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)

    return Embedding(embed, engine=arguments.option, batch_size=32, threads=arguments.threads, sorted=True)


if __name__ == "__main__":
    serve(load)
