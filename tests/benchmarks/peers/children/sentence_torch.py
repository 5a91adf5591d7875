"""sentence-transformers on torch: sorts by length itself. ``--option``: float32 or bfloat16."""

from serving import MAX_TOKENS, Arguments, Embedding, serve


def load(arguments: Arguments) -> Embedding:
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(arguments.threads)
    model = SentenceTransformer(str(arguments.model), device="cpu", model_kwargs={"dtype": getattr(torch, arguments.option)})
    model.max_seq_length = MAX_TOKENS

    def embed(texts: list[str]):
        # Not convert_to_numpy: numpy has no bfloat16.
        vectors = model.encode(texts, batch_size=32, normalize_embeddings=True, convert_to_numpy=False, convert_to_tensor=True)
        return vectors.float().numpy()

    return Embedding(embed, dtype=arguments.option, batch_size=32, threads=arguments.threads, sorted=True)


if __name__ == "__main__":
    serve(load)
