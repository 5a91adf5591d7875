"""fastembed with a model of one's own: the int8 ONNX file, mean pooling, unit length. It batches in the order the texts come."""

from serving import Arguments, Embedding, serve


def load(arguments: Arguments) -> Embedding:
    import numpy as np
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = "local/minilm"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),
        dim=384,
        model_file="onnx/model_quantized.onnx",
    )
    model = TextEmbedding(model_name=name, specific_model_path=str(arguments.made / "onnx"), threads=arguments.threads)
    return Embedding(
        lambda texts: np.stack(list(model.embed(texts, batch_size=32))),
        quantisation="int8",
        batch_size=32,
        threads=arguments.threads,
        sorted=False,
    )


if __name__ == "__main__":
    serve(load)
