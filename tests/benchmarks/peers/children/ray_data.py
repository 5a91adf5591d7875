"""Ray Data: map_batches over an actor for each CPU, each with sentence-transformers on one thread."""

from serving import MAX_TOKENS, Arguments, Embedding, serve

BATCH_ROWS = 256  # so much that sorting by length, which sentence-transformers does within a call, is worth something


class Encode:
    def __init__(self, folder: str, dtype: str) -> None:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        self._model = SentenceTransformer(folder, device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})
        self._model.max_seq_length = MAX_TOKENS

    def __call__(self, batch):
        vectors = self._model.encode(
            [str(text) for text in batch["text"]], batch_size=32, normalize_embeddings=True, convert_to_numpy=False, convert_to_tensor=True
        )
        return {"row": batch["row"], "vector": vectors.float().numpy()}


def load(arguments: Arguments) -> Embedding:
    import os

    import numpy as np
    import ray

    # Workers of Ray find this file by this path; its own folder of temporary files must be short, for its sockets' sake.
    ray.init(
        num_cpus=arguments.threads,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        object_store_memory=256 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": os.path.dirname(__file__), "OMP_NUM_THREADS": "1"}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    def embed(texts: list[str]):
        rows = ray.data.from_items(
            [{"row": row, "text": text} for row, text in enumerate(texts)], override_num_blocks=2 * arguments.threads
        )
        made = rows.map_batches(
            Encode,
            fn_constructor_args=(str(arguments.model), arguments.option),
            batch_size=BATCH_ROWS,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=arguments.threads),
        )
        vectors = np.empty((len(texts), 384), np.float32)
        for batch in made.iter_batches(batch_size=None):
            vectors[batch["row"]] = np.stack(batch["vector"])
        return vectors

    return Embedding(
        embed, dtype=arguments.option, batch_rows=BATCH_ROWS, actors=arguments.threads, note="its actors load the model in each run"
    )


if __name__ == "__main__":
    serve(load)
