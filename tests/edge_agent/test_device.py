"""What an agent reads of the machine it runs on, from recorded files, and the threads that follow."""

from pathlib import Path

import pytest

from edge_agent.device.energy import PROFILES, UNKNOWN_ARM, UNKNOWN_X86, joules_per_token, profile_of
from edge_agent.device.machine import (
    is_clock_synchronised,
    read_board,
    read_heat,
    read_load,
    read_memory,
    read_processor,
    threads_here,
)
from edge_agent.device.power import MAX_REST, POWERS, Pace
from edge_agent.device.processor import CoreClass, parse_cpuinfo
from edge_agent.device.readings import Memory, parse_meminfo, processor_temperature, throttling
from edge_agent.device.threads import MAX_THREADS, SMALL_MODEL, choose_threads
from tests.support.machines import EPYC, LITTLE, MEMINFO, PI_4, PI_5, cpuinfo, lay_out

LARGE = 10 * SMALL_MODEL
RK3588 = cpuinfo(*[LITTLE] * 4, *[PI_5] * 4)
CAPACITIES = {**dict.fromkeys(range(4), 530), **dict.fromkeys(range(4, 8), 1024)}


def test_a_processor_has_its_name_and_the_features_that_kernels_need() -> None:
    pi_4 = parse_cpuinfo(cpuinfo(*[PI_4] * 4), "aarch64")
    assert (pi_4.name, pi_4.num_cores, pi_4.features) == ("Cortex-A72", 4, {"asimd"})
    pi_5 = parse_cpuinfo(cpuinfo(*[PI_5] * 4), "aarch64")
    assert (pi_5.name, pi_5.features) == ("Cortex-A76", {"asimd", "dotprod", "fp16"})
    epyc = parse_cpuinfo(cpuinfo(EPYC, EPYC), "x86_64")
    assert (epyc.name, epyc.features) == ("AMD EPYC", {"avx2", "avx512", "vnni"})


def test_cores_are_classed_by_kind_and_speed_the_fastest_first() -> None:
    processor = parse_cpuinfo(RK3588, "aarch64", CAPACITIES)
    assert processor.classes == (CoreClass("Cortex-A76", 4, 1024), CoreClass("Cortex-A55", 4, 530))
    assert (processor.num_big, processor.num_cores, processor.name) == (4, 8, "Cortex-A76 + Cortex-A55")


def test_features_are_those_that_all_cores_have() -> None:
    assert parse_cpuinfo(cpuinfo(PI_4, PI_5), "aarch64").features == {"asimd"}


@pytest.mark.parametrize("text", ["", "garbage", "processor\t: 0\n\n", "processor: x\nCPU part: zz\n"])
def test_an_unknown_processor_is_no_error(text: str) -> None:
    assert parse_cpuinfo(text, "riscv64").features == frozenset()


def test_the_files_of_a_machine_are_read(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    root = lay_out(
        tmp_path,
        {
            "proc/cpuinfo": RK3588,
            "proc/meminfo": MEMINFO,
            "proc/loadavg": "1.50 1.20 1.00 1/200 999\n",
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            **{f"{cpus}/cpu{index}/cpu_capacity": f"{CAPACITIES[index]}\n" for index in range(8)},
            f"{cpus}/cpu0/cpufreq/scaling_governor": "powersave\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "81234\n",
            "sys/class/thermal/thermal_zone1/type": "nvme\n",
            "sys/class/thermal/thermal_zone1/temp": "99000\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50004\n",
        },
    )
    assert read_processor(root, "aarch64").num_big == 4
    assert read_board(root) == "Raspberry Pi 5 Model B Rev 1.0"
    assert read_memory(root) == Memory(4_096_000_000, 1_024_000_000)
    assert read_load(root).average == 1.5
    heat = read_heat(root)
    assert (heat.temperature, heat.governor) == (81.234, "powersave")
    assert heat.throttled_now == ("throttled",)
    assert heat.throttled_before == ("under-voltage", "throttled")


def test_an_empty_machine_is_no_error(tmp_path: Path) -> None:
    assert read_processor(tmp_path, "aarch64").num_cores == 0
    assert (read_memory(tmp_path), read_board(tmp_path)) == (None, None)
    assert read_heat(tmp_path).temperature is None
    assert read_load(tmp_path).num_usable >= 1


def test_a_container_has_no_more_than_its_group_allows(tmp_path: Path) -> None:
    assert parse_meminfo(MEMINFO, limit=600 << 20, used=500 << 20) == Memory(600 << 20, 100 << 20)
    assert parse_meminfo(MEMINFO, limit=1 << 60) == parse_meminfo(MEMINFO)
    root = lay_out(tmp_path, {"sys/fs/cgroup/cpu.max": "50000 100000\n", "proc/loadavg": "broken"})
    assert read_load(root).num_usable == 1


def test_the_processors_own_zones_come_first_and_nonsense_is_left_out() -> None:
    assert processor_temperature({"cpu-thermal": 50.0, "gpu": 90.0, "soc0": 55.0}) == 55.0
    assert processor_temperature({"acpitz": 41.0, "broken": -273.0}) == 41.0
    assert processor_temperature({}) is None


def test_throttling_bits_are_those_of_now_and_before() -> None:
    assert throttling(0) == ((), ())
    assert throttling(0x80008) == (("soft temperature limit",), ("soft temperature limit",))


def test_the_clock_is_read_without_privileges() -> None:
    assert is_clock_synchronised() in (True, False, None)


def test_threads_are_the_big_cores_that_are_free() -> None:
    processor = parse_cpuinfo(RK3588, "aarch64", CAPACITIES)
    assert choose_threads(processor, 8, 0.0, LARGE) == 4
    assert choose_threads(processor, 8, 2.0, LARGE) == 2
    assert choose_threads(processor, 8, 9.0, LARGE) == 1
    assert choose_threads(processor, 2, 0.0, LARGE) == 2
    assert choose_threads(parse_cpuinfo("", "x86_64"), 16, 0.0, LARGE) == MAX_THREADS


def test_a_small_model_gets_one_thread() -> None:
    assert choose_threads(parse_cpuinfo(RK3588, "aarch64", CAPACITIES), 8, 0.0, SMALL_MODEL - 1) == 1


def test_eco_takes_one_thread() -> None:
    processor = parse_cpuinfo(RK3588, "aarch64", CAPACITIES)
    assert choose_threads(processor, 8, 0.0, LARGE, POWERS["eco"].max_threads) == 1


def test_a_number_of_threads_that_was_set_stands() -> None:
    assert threads_here(3, LARGE, 1) == 3
    assert threads_here(0, LARGE, 1) == 0
    assert threads_here(None, 0, 4) == 1


def test_the_pace_rests_as_its_share_of_time_demands() -> None:
    full, half, quarter = Pace(), Pace(0.5), Pace(0.25)
    for pace in (full, half, quarter):
        assert pace.rest(0.0) == 0.0
        pace.worked(10.0, 10.2)
    assert full.rest(10.2) == 0.0
    assert half.rest(10.2) == pytest.approx(0.2)
    assert half.rest(10.3) == pytest.approx(0.1)
    assert half.rest(99.0) == 0.0
    assert quarter.rest(10.2) == pytest.approx(0.6)


def test_the_rest_after_a_long_prompt_is_bounded() -> None:
    pace = Pace(0.5)
    pace.worked(0.0, 30.0)
    assert pace.rest(30.0) == MAX_REST


def test_each_profile_is_in_the_table_of_the_documents() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
    for one in (*PROFILES, UNKNOWN_ARM, UNKNOWN_X86):
        assert f"| {one.name} | {one.idle:g} | {one.per_core:g} |" in page


def test_energy_follows_from_the_boards_profile() -> None:
    processor = parse_cpuinfo(cpuinfo(*[PI_5] * 4), "aarch64")
    pi_5 = profile_of("Raspberry Pi 5 Model B Rev 1.0", processor)
    assert pi_5.name == "Raspberry Pi 5"
    assert joules_per_token(pi_5, 0.1, 0.2) == pytest.approx(0.1 * pi_5.idle + 0.2 * pi_5.per_core)
    assert profile_of(None, processor) is UNKNOWN_ARM
