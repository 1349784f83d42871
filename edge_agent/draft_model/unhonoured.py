"""Fields of generation_config.json that would change a model's text and that no agent applies."""

from collections.abc import Mapping

# field -> the value without effect, as in transformers; None, False, 0 and empty values have none either
NEUTRAL: dict[str, float | None] = {
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "constraints": None,
    "diversity_penalty": 0,
    "dola_layers": None,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1,
    "epsilon_cutoff": 0,
    "eta_cutoff": 0,
    "exponential_decay_length_penalty": None,
    "force_words_ids": None,
    "forced_bos_token_id": None,
    "forced_decoder_ids": None,
    "forced_eos_token_id": None,
    "guidance_scale": 1,
    "max_time": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "no_repeat_ngram_size": 0,
    "num_beams": 1,
    "penalty_alpha": 0,
    "sequence_bias": None,
    "stop_strings": None,
    "suppress_tokens": None,
    "top_h": None,
    "typical_p": 1,
    "watermarking_config": None,
}


def unhonoured(generation: Mapping[str, object]) -> tuple[str, ...]:
    """The names of the fields that would change the text, in order."""
    set_fields = [name for name in sorted(NEUTRAL) if generation.get(name)]
    return tuple(name for name in set_fields if generation[name] != NEUTRAL[name])
