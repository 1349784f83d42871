"""The numbers of the GGUF format: types of metadata values, and types of stored weights. Pure."""

from typing import NamedTuple

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

STRING, ARRAY = 8, 9
SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}


class WeightType(NamedTuple):
    """A number format of weights: `num_bytes` hold a block of `block` of them."""

    name: str
    block: int
    num_bytes: int


WEIGHT_TYPES = {
    0: WeightType("F32", 1, 4),
    1: WeightType("F16", 1, 2),
    2: WeightType("Q4_0", 32, 18),
    3: WeightType("Q4_1", 32, 20),
    6: WeightType("Q5_0", 32, 22),
    7: WeightType("Q5_1", 32, 24),
    8: WeightType("Q8_0", 32, 34),
    10: WeightType("Q2_K", 256, 84),
    11: WeightType("Q3_K", 256, 110),
    12: WeightType("Q4_K", 256, 144),
    13: WeightType("Q5_K", 256, 176),
    14: WeightType("Q6_K", 256, 210),
    16: WeightType("IQ2_XXS", 256, 66),
    17: WeightType("IQ2_XS", 256, 74),
    18: WeightType("IQ3_XXS", 256, 98),
    19: WeightType("IQ1_S", 256, 50),
    20: WeightType("IQ4_NL", 32, 18),
    21: WeightType("IQ3_S", 256, 110),
    22: WeightType("IQ2_S", 256, 82),
    23: WeightType("IQ4_XS", 256, 136),
    29: WeightType("IQ1_M", 256, 56),
    30: WeightType("BF16", 1, 2),
    34: WeightType("TQ1_0", 256, 54),
    35: WeightType("TQ2_0", 256, 66),
    39: WeightType("MXFP4", 32, 17),
}
