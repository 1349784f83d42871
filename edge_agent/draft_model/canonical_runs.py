"""How tokens are split into runs, for graphs whose numbers depend on it. Pure.

Law: the split is a function of the length of the prompt and of the position: the prompt in runs that end at
multiples of `RUN` and at its own end, and every later token alone. So drafting ahead, a rejection, or what
was read before never change a number.
"""

RUN = 32  # tokens: longer runs read a prompt hardly faster, and a cached prompt is kept in whole runs


def kept(common: int, length: int, num_prompt: int, prompt_in_cache: int | None) -> int:
    """How many of `common` cached positions to keep, to read `length` tokens with this prompt.

    At least the last token is read again. `prompt_in_cache` is the prompt's length with which the cache was
    read, None if it was read in other runs.
    """
    common = min(common, length - 1)
    if prompt_in_cache is None:
        return 0
    if prompt_in_cache == num_prompt and common >= num_prompt:
        return common
    return min(common, prompt_in_cache, num_prompt) // RUN * RUN


def runs(start: int, length: int, num_prompt: int) -> list[int]:
    """Where the runs end that read tokens from `start`, a place between two runs, to `length`."""
    prompt = [*range((start // RUN + 1) * RUN, num_prompt, RUN), num_prompt] if start < num_prompt else []
    return prompt + list(range(max(start, num_prompt) + 1, length + 1))
