"""OpenVINO GenAI on the CPU: continuous batches, prefixes kept by block."""

from prompting import Wording
from serving import Arguments, serve

CACHE_GB = 2


class OpenVino:
    def __init__(self, arguments: Arguments) -> None:
        import openvino_genai

        self._genai = openvino_genai
        self._wording = Wording(arguments.model)
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.enable_prefix_caching = True
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(arguments.made / "openvino-decoder"), scheduler, "CPU", {"INFERENCE_NUM_THREADS": arguments.threads}
        )
        self.settings = {"threads": arguments.threads}

    def write(self, prompts):
        import numpy as np
        from openvino import Tensor

        ids = [Tensor(np.array([one], np.int64)) for one in self._wording.read([text for text, _ in prompts])]
        answers = self._pipeline.generate(ids, [self._asked(most) for _, most in prompts])
        return self._wording.told([answer.m_generation_ids[0] for answer in answers])

    def _asked(self, most: int):
        asked = self._genai.GenerationConfig()
        asked.max_new_tokens, asked.min_new_tokens = most, 1
        asked.eos_token_id, asked.stop_token_ids = self._wording.ends[0], set(self._wording.ends)
        return asked


if __name__ == "__main__":
    serve(OpenVino)
