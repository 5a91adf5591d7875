"""transformers' pipeline: one text after the other, padded in batches of 32 in the order they come, fp32."""

from serving import Arguments, Embedding, serve


def make_pipeline(model: str, threads: int):
    """A pipeline that pools, as the documentation of transformers tells to write one's own: the feature-extraction pipeline gives out
    vectors of padding tokens together with the others."""
    import torch
    from serving import MAX_TOKENS
    from transformers import AutoModel, AutoTokenizer, Pipeline

    class SentencePipeline(Pipeline):
        def _sanitize_parameters(self, **parameters):
            return {}, {}, {}

        def preprocess(self, text):
            return self.tokenizer(text, return_tensors="pt", truncation=True, max_length=MAX_TOKENS)

        def _forward(self, inputs):
            hidden = self.model(**inputs)[0]
            mask = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            return {"vector": torch.nn.functional.normalize(pooled, dim=1)}

        def postprocess(self, outputs):
            return outputs["vector"][0].float().numpy()

    torch.set_num_threads(threads)
    return SentencePipeline(
        model=AutoModel.from_pretrained(model, dtype=torch.float32).eval(),
        tokenizer=AutoTokenizer.from_pretrained(model),
        device="cpu",
        batch_size=32,
    )


def load(arguments: Arguments) -> Embedding:
    pipe = make_pipeline(str(arguments.model), arguments.threads)
    return Embedding(lambda texts: list(pipe(texts)), dtype="float32", batch_size=32, threads=arguments.threads)


if __name__ == "__main__":
    serve(load)
