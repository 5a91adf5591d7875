"""The decoder in OpenVINO's own form, weights in int8, with its tokenizer: `make_openvino_decoder.py MODEL FOLDER TEXTS`."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

MOST_TOKENS = 8192


def main(model: Path, folder: Path) -> None:
    import openvino
    from openvino_tokenizers import convert_tokenizer
    from optimum.intel import OVModelForCausalLM
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as place:
        plain = Path(place)
        shutil.copytree(model, plain, dirs_exist_ok=True)
        config = json.loads((model / "config.json").read_text())
        rope = config.pop("rope_parameters")  # as transformers 5 has it; optimum-intel asks for one before
        config |= {"rope_theta": rope["full_attention"]["rope_theta"], "rope_local_base_freq": rope["sliding_attention"]["rope_theta"]}
        (plain / "config.json").write_text(json.dumps(config))
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(model / "tokenizer.json"),
            bos_token="<bos>",
            eos_token="<eos>",
            pad_token="<pad>",
            model_max_length=MOST_TOKENS,
        )
        tokenizer.save_pretrained(plain)
        exported = OVModelForCausalLM.from_pretrained(str(plain), export=True, compile=False, load_in_8bit=True)
        exported.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for name, made in zip(("tokenizer", "detokenizer"), convert_tokenizer(tokenizer, with_detokenizer=True), strict=True):
            openvino.save_model(made, folder / f"openvino_{name}.xml")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
