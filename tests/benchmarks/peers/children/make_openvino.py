"""The OpenVINO model in static int8, quantised by NNCF as optimum-intel does: `make_openvino.py MODEL FOLDER TEXTS`.

TEXTS are what the ranges of activations are measured on: a few hundred, as JSON.
"""

import json
import shutil
import sys
from pathlib import Path

MAX_TOKENS = 256


def main(model: Path, folder: Path, texts: Path) -> None:
    import nncf
    import openvino
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    shutil.copytree(model, folder, dirs_exist_ok=True)
    target = folder / "openvino"
    exported = OVModelForFeatureExtraction.from_pretrained(str(model), export=True, compile=False, load_in_8bit=False)
    exported.save_pretrained(target)
    plain = openvino.Core().read_model(target / "openvino_model.xml")
    names = {port.get_any_name() for port in plain.inputs}
    tokenizer = AutoTokenizer.from_pretrained(str(model))

    def inputs(text: str):
        encoded = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="np", return_token_type_ids=True)
        return {name: value for name, value in encoded.items() if name in names}

    quantised = nncf.quantize(
        plain,
        nncf.Dataset(json.loads(texts.read_text()), inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(json.loads(texts.read_text())),
        fast_bias_correction=True,
    )
    openvino.save_model(quantised, target / "openvino_model_qint8_quantized.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
