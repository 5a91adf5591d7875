"""vLLM offline on the CPU, eager: continuous batches, prefixes kept by block."""

import os

from prompting import Wording
from serving import Arguments, serve

MOST_TOKENS = 1024  # of a prompt and its answer


class Vllm:
    def __init__(self, arguments: Arguments) -> None:
        os.environ.update(
            VLLM_CPU_KVCACHE_SPACE="2",
            VLLM_CPU_OMP_THREADS_BIND="nobind",  # it would take cores for itself; so it has as many threads as OMP_NUM_THREADS says
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            VLLM_NO_USAGE_STATS="1",
            DO_NOT_TRACK="1",
        )
        import torch
        from vllm import LLM

        self._wording = Wording(arguments.model)
        self._llm = LLM(
            model=str(arguments.model),
            dtype=arguments.option,
            max_model_len=MOST_TOKENS,
            enforce_eager=True,
            enable_prefix_caching=True,
            skip_tokenizer_init=True,
        )
        self.settings = {"dtype": arguments.option, "threads": torch.get_num_threads()}

    def write(self, prompts):
        from vllm import SamplingParams

        ids = [{"prompt_token_ids": one} for one in self._wording.read([text for text, _ in prompts])]
        asked = [
            SamplingParams(temperature=0.0, max_tokens=most, min_tokens=1, stop_token_ids=self._wording.ends, detokenize=False)
            for _, most in prompts
        ]
        answers = self._llm.generate(ids, asked, use_tqdm=False)
        return self._wording.told([answer.outputs[0].token_ids for answer in answers])


if __name__ == "__main__":
    serve(Vllm)
