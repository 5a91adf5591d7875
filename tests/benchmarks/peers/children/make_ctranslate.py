"""The CTranslate2 model in int8: `make_ctranslate.py MODEL FOLDER TEXTS`."""

import sys

if __name__ == "__main__":
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(sys.argv[1]).convert(sys.argv[2], quantization="int8", force=True)
