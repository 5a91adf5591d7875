"""Guards of decoders of an operator's own: their folders, their chat templates, and texts that spell control tokens."""

from typing import Final

from tests.faults.mutants.mutant import Mutant

_GUARDED: Final = "workers/engines/decoders/wording/guarded.py"
_TEMPLATE: Final = "workers/engines/decoders/wording/template.py"
_OWN: Final = "workers/engines/decoders/wording/own.py"
_FOLDER: Final = "workers/models/decoder_folder.py"
_TEST: Final = "tests/workers/engines/decoders/test_own_models.py::"
_ADAPTERS: Final = "workers/models/adapters.py"
_LORA: Final = "workers/engines/decoders/lora.py"
_ADAPTERS_TEST: Final = "tests/unit/workers/models/test_adapters.py::"
_LORA_TEST: Final = "tests/workers/engines/decoders/test_lora.py::"
_FOLDER_TEST: Final = "tests/unit/workers/models/test_decoder_folders.py::"
_OPENVINO: Final = "workers/engines/decoders/openvino_decoder.py"
_OPENVINO_TEST: Final = "tests/unit/workers/engines/decoders/test_openvino_decoder.py::"

MUTANTS: Final = (
    Mutant(
        "spelt-in-a-message",
        "a control token that a message spells is not the template's",
        _GUARDED,
        (("places = {at for at, _ in self._control_in(text)}", "places = set[int]()"),),
        (f"{_TEST}test_a_control_token_spelt_in_a_message_is_text",),
    ),
    Mutant(
        "word-of-the-vocabulary",
        "a control token is no word of the vocabulary that texts are read with",
        _GUARDED,
        (
            (
                'model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}',
                'model["vocab"] = vocabulary | {names[token]: ids[token] for token in names}',
            ),
        ),
        (f"{_TEST}test_a_control_token_spelt_in_a_message_is_text",),
    ),
    Mutant(
        "edge-of-a-message",
        "a message completes no control token that the template began",
        _GUARDED,
        (("if ends_one or (len(stripped) < reach and", "if False and (len(stripped) < reach and"),),
        (f"{_TEST}test_a_message_completes_no_control_token_that_the_template_began",),
    ),
    Mutant(
        "written-by-the-template",
        "what a template writes as a control token is none of a text, whatever its file calls it",
        _OWN,
        (("if special or (token in written and not token.strip(SPACE).isalnum())", "if special"),),
        (f"{_TEST}test_a_control_token_that_the_file_does_not_call_special_is_text_too",),
    ),
    Mutant(
        "endless-template",
        "a template that comes to no end is left after a few conversations",
        _TEMPLATE,
        (("if self._strikes >= STRIKES:", "if False:"),),
        (f"{_TEST}test_one_that_loops_over_some_messages_costs_their_rows_and_then_is_left",),
    ),
    Mutant(
        "template-without-secrets",
        "a template's process has nothing of the worker's environment",
        _TEMPLATE,
        (("env={name: os.environ[name] for name in KEPT if name in os.environ},", "env=dict(os.environ),"),),
        (f"{_TEST}test_a_templates_process_has_nothing_of_this_ones_environment",),
    ),
    Mutant(
        "template-sandbox",
        "a template reaches nothing of Python",
        "workers/engines/decoders/wording/template_process.py",
        (("made = ImmutableSandboxedEnvironment(", "made: Any = jinja2.Environment("),),
        (f"{_TEST}test_a_template_that_grows_refuses_or_reaches_out_makes_no_prompt",),
    ),
    Mutant(
        "tokenizer-that-fits",
        "a tokenizer with more tokens than the model is not used",
        _OWN,
        (("if max(tokenizer.get_vocab().values(), default=0) >= vocabulary:", "if False:"),),
        (f"{_TEST}test_a_folder_that_does_not_fit_is_a_sentence",),
    ),
    Mutant(
        "attention-by-name",
        "an attention that config.json names is not looked for",
        "workers/engines/decoders/torch_decoder.py",
        (("attention=FIRST_ATTENTION)", "attention=None)"),),
        (f"{_TEST}test_nothing_of_a_folder_is_executed",),
    ),
    Mutant(
        "changing-positions",
        "positions that change with the longest row are read as far as they do not",
        _FOLDER,
        (("if kind in CHANGING_ROPES:", "if False:"),),
        (f"{_FOLDER_TEST}test_it_reads_as_far_as_its_positions_are_right",),
    ),
    Mutant(
        "messages-need-a-template",
        "a job of messages for a model without a template is refused before anything runs",
        "workers/tasks/generate/task.py",
        (("if card.reads_no_messages and endpoint != completions.ENDPOINT:", "if False:"),),
        (f"{_FOLDER_TEST}test_a_job_of_messages_needs_a_template_and_one_of_prompts_does_not",),
    ),
    Mutant(
        "attention-on-a-hub",
        "an attention on a hub, which is code, is not loaded",
        "workers/models/folder_config.py",
        (('if any("/" in str(config.get(name)) for name in _ATTENTIONS):', "if False:"),),
        ("tests/unit/workers/models/test_folders.py::test_an_odd_config_harms_its_own_folder_alone",),
    ),
    Mutant(
        "plain-lora",
        "an adapter that is more than LoRA is refused",
        _ADAPTERS,
        (("if name not in _ASIDE and value:", "if False:"),),
        (f"{_ADAPTERS_TEST}test_what_is_more_than_plain_is_refused_by_name",),
    ),
    Mutant(
        "residual-weights",
        "an adapter that was made over changed weights is refused",
        _ADAPTERS,
        (('if said.get("init_lora_weights") not in _BEGINNINGS:', "if False:"),),
        (f"{_ADAPTERS_TEST}test_what_is_more_than_plain_is_refused_by_name",),
    ),
    Mutant(
        "rank-that-is-said",
        "an adapter whose matrices are of another rank, and so its scale, is refused",
        _LORA,
        (("pair[UP].shape[1] == rank:", "pair[UP].shape[1]:"),),
        (f"{_LORA_TEST}test_an_adapter_that_does_not_fit_is_a_sentence",),
    ),
    Mutant(
        "tied-head",
        "an adapter of a head that is tied does not change the embeddings",
        _LORA,
        (("if layer is model.get_output_embeddings() and layer.weight is", "if False and layer.weight is"),),
        (f"{_LORA_TEST}test_a_head_that_is_tied_to_the_embeddings_is_not_changed",),
    ),
    Mutant(
        "adapter-in-the-digest",
        "the version of an answer tells of the adapter that made it",
        "workers/models/provision.py",
        (("for place in (folder, card.adapter) if place is not None", "for place in (folder,)"),),
        (f"{_ADAPTERS_TEST}test_its_digest_is_of_its_weights_and_the_models",),
    ),
    Mutant(
        "adapter-that-others-may-write",
        "an adapter that others may change is not used",
        "workers/models/provision.py",
        (("    if card.adapter is not None:\n        _check_own(card, card.adapter)\n", ""),),
        (f"{_ADAPTERS_TEST}test_one_that_others_may_write_is_not_used",),
    ),
    Mutant(
        "budget-of-memory",
        "before a model is loaded idle ones go, until there is room for it",
        "workers/inference/runtime.py",
        (("while needed > self._free_bytes() and self.unload(0.0, most=1):", "while False:"),),
        (
            "tests/unit/workers/inference/test_unloading.py::"
            "test_before_a_model_is_loaded_as_many_go_as_its_memory_needs_the_least_recently_used_first",
        ),
    ),
    Mutant(
        "one-load-at-a-time",
        "models are loaded one at a time, for the default dtype is the whole process's",
        "workers/engines/folders/pretrained.py",
        (("with _one_at_a_time, translated():", "with translated():"),),
        ("tests/unit/workers/engines/folders/test_pretrained.py::test_models_are_loaded_one_at_a_time",),
    ),
    Mutant(
        "openvino-keeps-nothing",
        "OpenVINO GenAI, which knows no tenants, keeps no keys and values of rows that have ended",
        _OPENVINO,
        (("scheduler.enable_prefix_caching = False", "scheduler.enable_prefix_caching = True"),),
        (f"{_OPENVINO_TEST}test_no_keys_and_values_are_kept_when_their_row_has_ended",),
    ),
    Mutant(
        "openvino-grammar-refused",
        "a form of answer that OpenVINO GenAI would leave aside is refused by name",
        _OPENVINO,
        (("if grammar is not None:", "if False:"),),
        (f"{_OPENVINO_TEST}test_what_the_pipeline_cannot_do_is_refused_by_name",),
    ),
    Mutant(
        "openvino-row-alone",
        "a row that OpenVINO GenAI does not take fails, and none beside it",
        _OPENVINO,
        (("                if lacks_memory(error):\n                    raise\n", "                raise\n"),),
        (f"{_OPENVINO_TEST}test_a_row_that_the_pipeline_does_not_take_fails_alone",),
    ),
    Mutant(
        "openvino-edge-of-32-bits",
        "OpenVINO GenAI is asked for nothing that it refuses in 32 bits",
        _OPENVINO,
        (("max(sampling.top_p, LEAST), min(sampling.min_p, MOST)", "sampling.top_p, sampling.min_p"),),
        (f"{_OPENVINO_TEST}test_what_is_at_the_edge_of_32_bits_is_asked_as_what_is_nearest_to_it",),
    ),
    Mutant(
        "openvino-one-pipeline",
        "the pipeline of a step that failed goes before another is made",
        _OPENVINO,
        (("self._pipeline = None  # what", "self._pipeline = self._decoder.pipeline()  # what"),),
        (f"{_OPENVINO_TEST}test_a_step_that_lacks_memory_says_so_and_the_next_one_has_another_pipeline",),
    ),
    Mutant(
        "openvino-lacks-memory",
        "OpenVINO GenAI's words for too little memory are told as that",
        _OPENVINO,
        (
            (
                "            if lacks_memory(error):\n                raise OutOfMemory from None\n            raise\n\n    def _step",
                "            raise\n\n    def _step",
            ),
        ),
        (f"{_OPENVINO_TEST}test_a_step_that_lacks_memory_says_so_and_the_next_one_has_another_pipeline",),
    ),
    Mutant(
        "openvino-nobody-to-blame",
        "a pipeline that cannot be made is no row's fault",
        _OPENVINO,
        (("            raise EngineBroken from None", "            raise"),),
        (f"{_OPENVINO_TEST}test_a_pipeline_that_cannot_be_made_again_is_no_fault_of_the_rows",),
    ),
    Mutant(
        "openvino-no-room",
        "a row whose keys and values have no room is told so",
        _OPENVINO,
        (
            (
                "if saying.ending is None and status == statuses.IGNORED:",
                "if saying.ending is None and handle.get_status() == statuses.IGNORED:",
            ),
        ),
        (f"{_OPENVINO_TEST}test_a_row_whose_keys_and_values_have_no_room_is_told_so",),
    ),
    Mutant(
        "openvino-beside-safetensors",
        "what lies in OpenVINO's form beside safetensors is left aside",
        "workers/models/folders.py",
        ((' and not any(folder.glob("*.safetensors"))', ""),),
        (f"{_FOLDER_TEST}test_what_lies_beside_safetensors_or_an_encoder_in_openvinos_form_makes_no_decoder",),
    ),
    Mutant(
        "openvino-defaults",
        "a job's defaults ask OpenVINO's pipeline for nothing that it does not do",
        "workers/tasks/generate/task.py",
        (("return unsupported(body) if card.openvino else None", "return None"),),
        ("tests/unit/workers/tasks/test_pairs.py::test_what_openvinos_pipeline_cannot_do_is_refused_of_defaults",),
    ),
    Mutant(
        "label-behind-a-thought",
        "a label stands behind what the template writes before each answer",
        _OWN,
        (('self._chat([Message("user", text)], self._thought)', 'self.chat([Message("user", text)])'),),
        ("tests/workers/engines/decoders/test_asking.py::test_a_label_follows_what_the_template_writes_before_an_answer",),
    ),
)
