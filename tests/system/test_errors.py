"""What goes wrong in people's hands, with the real commands: one sentence on stderr, a code that is not 0."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from cloud_worker.__main__ import main as cloud_worker
from evaluation.local.broker import LocalBroker, free_port
from evaluation.local.worker import LocalWorker
from tests.support.narrowing import present
from tests.support.small_models import FolderOf, SmallModels

INTERRUPTED = 130
TIMEOUT = 120.0  # for a machine that is busy; nothing here takes seconds on a quiet one
MAX_CONTEXT = 200  # of the worker: less than the draft model takes

LOG_LINE = re.compile(r"^(edge-agent: (DEBUG|INFO|WARNING)|\d{4}-\d\d-\d\d )")

Spoil = Callable[[Path], object]  # breaks something in a model folder


def command(package: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", package, *arguments]


def start(*arguments: str) -> subprocess.Popen[str]:
    """`edge-agent` with pipes on every side."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command("edge_agent", *arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def run(
    *arguments: str, env: Mapping[str, str] | None = None, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command("edge_agent", *arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        env=env,
        input=input,
    )


def check_sentence(said: str, *words: str) -> None:
    """One complaint, with these words in it, and nothing beside it but the log."""
    assert "Traceback" not in said
    complaints = [line for line in said.splitlines() if line.strip() and not LOG_LINE.match(line)]
    assert len(complaints) == 1, said
    assert re.match(r"(edge-agent|cloud-worker)( \w+)?: \S.{10,}", complaints[0]), said
    for word in words:
        assert word in complaints[0]


def check(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    check_sentence(done.stderr, *words)
    assert done.returncode == code, done.stderr


def copied(source: Path, folder: Path) -> Path:
    return Path(shutil.copytree(source, folder))


# -- settings and files: nothing is running ------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ("COMMAND",)),
        (("generate",), ("prompt",)),
        (("generate", "hi", "--tempreature", "1"), ("--tempreature", "did you mean --temperature?")),
        (("generate", "hi", "-f", "x"), ("not allowed with",)),
        (("generate", "hi", "--lines"), ("--lines", "-f FILE")),
        (("generate", "-", "--lines", "--jsonl"), ("not allowed with",)),
        (("generate", "hi", "there"), ("unknown argument there",)),
        (("generate", "hi", "--scheme", "fastest"), ("fastest", "lossless")),
        (("generate", "hi", "--config", "{tmp}/broken.toml"), ("broken.toml", "not valid TOML")),
        (("generate", "hi", "--config", "{tmp}/unknown.toml"), ("modle", "did you mean model?")),
        (("generate", "hi", "--config", "{tmp}/none.toml"), ("none.toml", "No such file")),
        (("generate", "hi", "--max-tokens", "0"), ("--max-tokens", "4096")),
        (("chat", "--device", "a/b"), ("a/b",)),
    ],
)
def test_wrong_usage_is_one_sentence_and_code_2(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_text("scheme = ")
    (tmp_path / "unknown.toml").write_text('modle = "x"')
    check(run(*[part.format(tmp=tmp_path) for part in arguments]), 2, *words)


def test_an_unknown_variable_is_one_sentence() -> None:
    done = run("generate", "hi", env=os.environ | {"EDGE_AGENT_MODLE": "x"})
    check(done, 2, "EDGE_AGENT_MODLE", "did you mean model?")


def test_a_hub_that_cannot_be_reached_is_one_sentence_without_a_second_try() -> None:
    """The address is this machine's own, where nobody listens, so no network is asked."""
    unreachable = {"HF_ENDPOINT": f"http://127.0.0.1:{free_port()}", "HF_HUB_OFFLINE": "0"}
    done = run("generate", "hi", "--model", "some-org/some-model", env=os.environ | unreachable)
    check(done, 1, "some-org/some-model", "the hub cannot be reached")
    assert len(done.stderr.splitlines()) == 1  # it retried for 26 s, and said so twice each time


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    check(run("generate", "hi", "--model", str(tmp_path / "none")), 1, "none", "folder")


def corrupt_graph(folder: Path) -> None:
    graph = folder / "model.onnx"
    graph.write_bytes(b"not a graph at all" + graph.read_bytes()[:5000])


def cut_graph(folder: Path) -> None:
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])


SPOILT_DRAFTS: list[tuple[Spoil, str]] = [
    (corrupt_graph, "model.onnx"),
    (cut_graph, "model.onnx"),
    (lambda folder: (folder / "model.onnx").write_bytes(b""), "model.onnx"),
    (lambda folder: (folder / "model.onnx").unlink(), "ONNX"),
    (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "config.json"),
    (lambda folder: (folder / "generation_config.json").write_bytes(b"\xff"), "generation_config.json"),
    (lambda folder: (folder / "chat_template.jinja").write_text("{% if %}"), "template"),
    (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xff\xfe"), "template"),
]


@pytest.mark.parametrize(("spoil", "word"), SPOILT_DRAFTS)
def test_a_spoiled_model_folder_is_one_sentence(
    spoil: Spoil, word: str, tmp_path: Path, draft_folder: FolderOf
) -> None:
    folder = copied(draft_folder("llama"), tmp_path / "spoiled")
    spoil(folder)
    check(run("generate", "hi", "--scheme", "slm", "--quiet", "--model", str(folder)), 1, word)


def spoil_weights(folder: Path, value: float) -> None:
    """Put `value` into the weights of every layer, as a precision that overflows does."""
    graph = onnx.load(folder / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2:
            weights = numpy_helper.to_array(tensor).copy()
            weights[:, -1] = value
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    for path in folder.glob("model.onnx*"):
        path.unlink()
    onnx.save(graph, folder / "model.onnx")


@pytest.mark.parametrize("temperature", ["0", "1"])
def test_a_graph_that_returns_no_numbers_is_one_sentence(
    temperature: str, tmp_path: Path, draft_folder: FolderOf
) -> None:
    folder = copied(draft_folder("llama"), tmp_path / "overflowing")
    spoil_weights(folder, float("nan"))
    flags = ("--quiet", "--model", str(folder), "--temperature", temperature)
    done = run("generate", "hi", "--scheme", "slm", *flags)
    check(done, 1, "not finite at position", "precision", "--model-file")
    assert done.stdout == ""


def local(draft_folder: FolderOf, *arguments: str) -> list[str]:
    """A generation that needs no cloud."""
    return ["generate", "--scheme", "slm", "--quiet", "--model", str(draft_folder("llama")), *arguments]


def test_a_prompt_that_is_too_long_is_one_sentence(draft_folder: FolderOf) -> None:
    check(run(*local(draft_folder, "light " * 600)), 1, "the prompt has", "512")


def test_an_empty_prompt_is_one_sentence(tmp_path: Path, draft_folder: FolderOf) -> None:
    folder = copied(draft_folder("llama"), tmp_path / "plain")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    check(run("generate", "", "--raw", "--scheme", "slm", "--model", str(folder)), 1, "empty")


def test_a_prompt_that_is_no_text_is_one_sentence(draft_folder: FolderOf) -> None:
    arguments = [os.fsencode(part) for part in command("edge_agent", *local(draft_folder))]
    done = subprocess.run([*arguments, b"caf\xe9"], capture_output=True, timeout=TIMEOUT)
    check_sentence(done.stderr.decode(), "not valid Unicode")
    assert done.returncode == 1


def test_typed_bytes_that_are_no_text_are_replaced_and_the_answer_comes(draft_folder: FolderOf) -> None:
    arguments = command("edge_agent", *local(draft_folder, "-", "--max-tokens", "3", "--json"))
    done = subprocess.run(arguments, input=b"caf\xe9\n\n", capture_output=True, timeout=TIMEOUT, check=True)
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert answer["prompt"] == "caf\N{REPLACEMENT CHARACTER}"


def test_a_terminal_that_lacks_a_character_shows_another(draft_folder: FolderOf) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = run(*local(draft_folder, "Öffne 今日 🙂", "--max-tokens", "60", "--seed", "1"), env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_line_that_cannot_be_answered_does_not_keep_those_after_it_from_their_answers(
    draft_folder: FolderOf,
) -> None:
    model = ("--model", str(draft_folder("llama")), "--scheme", "slm", "--max-tokens", "4")
    done = run("generate", "-", "--lines", "--json", *model, input="light " * 3000 + "\nturn on the light\n")
    check(done, 1, "shorten it")
    refused, answered = (json.loads(line) for line in done.stdout.splitlines())
    assert "shorten it" in refused["error"]
    assert (answered["error"], answered["num_tokens"]) == (None, 4)


def test_a_prompt_of_several_lines_is_one_prompt(tmp_path: Path, draft_folder: FolderOf) -> None:
    text = "turn on\nthe light\n"
    (tmp_path / "prompt").write_text(text)
    flags = ("--json", "--max-tokens", "3", "--seed", "1")
    piped = run(*local(draft_folder, *flags, "-"), input=text)
    read = run(*local(draft_folder, *flags, "-f", str(tmp_path / "prompt")))
    assert json.loads(piped.stdout)["prompt"] == json.loads(read.stdout)["prompt"] == "turn on\nthe light"
    assert json.loads(piped.stdout)["text"] == json.loads(read.stdout)["text"]


def test_lines_of_json_are_answered_by_their_names(draft_folder: FolderOf) -> None:
    lines = ['{"prompt": "turn on", "seed": 7, "id": "a"}', '{"promt": "x"}', '"turn on"']
    flags = ("--jsonl", "--json", "--max-tokens", "3", "--seed", "7")
    done = run(*local(draft_folder, *flags, "-"), input="\n".join(lines))
    check(done, 1, "unknown field 'promt'")
    first, broken, last = map(json.loads, done.stdout.splitlines())
    assert (first["id"], first["seed"], first["text"]) == ("a", 7, last["text"])
    assert broken["prompt"] == lines[1]
    assert broken["error"]


def test_a_full_disk_is_one_sentence(draft_folder: FolderOf) -> None:
    with open("/dev/full", "w") as full:
        arguments = command("edge_agent", *local(draft_folder, "hi"))
        done = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT)
    check(done, 1, "No space left")


def test_an_output_that_nobody_reads_is_one_sentence(draft_folder: FolderOf) -> None:
    agent = start(*local(draft_folder, "-", "--lines", "--max-tokens", "40"))
    present(agent.stdin).write("one\ntwo\nthree\n" * 50)
    present(agent.stdin).flush()
    present(agent.stdout).readline()
    present(agent.stdout).close()  # as `| head -1` does
    said = present(agent.stderr).read()
    assert agent.wait(TIMEOUT) == 1
    check_sentence(said, "cannot write the answer (Broken pipe)")
    present(agent.stdin).close()


# -- the broker ----------------------------------------------------------------------------------------


def asking(draft_folder: FolderOf, broker_url: str, *arguments: str) -> list[str]:
    """A generation that asks the cloud."""
    model = str(draft_folder("llama"))
    return ["generate", "hi", "--quiet", "--model", model, "--broker", broker_url, *arguments]


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("localhost", "mqtt://host:port"),
        ("mqtt://localhost:99999", "1 to 65535"),
        ("mqtt://[::1", "[::1"),
        ("mqtt://two..dots", "two..dots"),
        ("mqtt://" + "long" * 20, "longlong"),
        ("mqtt://me:secret@localhost", "user name or password"),
    ],
)
def test_a_wrong_broker_url_is_one_sentence(url: str, word: str, draft_folder: FolderOf) -> None:
    done = run(*asking(draft_folder, url))
    assert done.returncode in (1, 2)
    check_sentence(done.stderr, word)
    assert "secret" not in done.stderr


def test_a_missing_broker_is_one_sentence(draft_folder: FolderOf) -> None:
    port = free_port()
    done = run(*asking(draft_folder, f"mqtt://127.0.0.1:{port}"))
    check(done, 1, f"no broker at 127.0.0.1:{port}", "start mosquitto")


def test_a_missing_broker_is_one_sentence_for_those_who_wait_a_while_too(draft_folder: FolderOf) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    done = run(
        *asking(draft_folder, url, "--on-cloud-loss", "local", "--scheme", "llm", "--cloud-timeout", "1")
    )
    check(done, 1, f"no connection to {url}")


@pytest.fixture(scope="module")
def guarded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBroker]:
    """A broker that wants a password."""
    folder = tmp_path_factory.mktemp("guarded")
    passwords = folder / "passwords"
    passwords.touch()
    subprocess.run(["mosquitto_passwd", "-b", str(passwords), "device", "right"], check=True)
    conf = folder / "guarded.conf"
    conf.write_text(f"listener 1883 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n")
    with LocalBroker(folder, conf=conf) as broker:
        yield broker


def test_a_wrong_password_is_one_sentence(guarded_broker: LocalBroker, draft_folder: FolderOf) -> None:
    environment = os.environ | {"EDGE_AGENT_USERNAME": "device", "EDGE_AGENT_PASSWORD": "wrong"}
    done = run(*asking(draft_folder, guarded_broker.url), env=environment)
    check(done, 1, "refused the user name or password")
    assert "wrong" not in done.stderr


def test_a_missing_password_file_is_one_sentence(
    guarded_broker: LocalBroker, draft_folder: FolderOf, tmp_path: Path
) -> None:
    flags = ("--username", "device", "--password-file", str(tmp_path / "none"))
    check(run(*asking(draft_folder, guarded_broker.url, *flags)), 2, "password file", "No such file")


# -- the worker refuses to start -----------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What `cloud-worker run` says instead of serving."""
    assert cloud_worker(["run", *arguments]) in (1, 2)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--model", "/nowhere/at-all"), "/nowhere/at-all"),
        (("--cache-mb", "0"), "--cache-mb"),
        (("--config", "/nowhere/at-all.toml"), "at-all.toml"),
    ],
)
def test_a_worker_that_cannot_start_says_one_sentence(
    arguments: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_sentence(refused(capsys, *arguments), word)


SPOILT_TARGETS: list[tuple[Spoil, str]] = [
    (lambda folder: (folder / "config.json").unlink(), "config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "config"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer"),
    (lambda folder: (folder / "tokenizer.json").write_text("no JSON"), "tokenizer"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b""), "model"),
    (lambda folder: (folder / "model.safetensors").unlink(), "model"),
]


@pytest.mark.parametrize(("spoil", "word"), SPOILT_TARGETS)
def test_a_spoiled_target_model_is_one_sentence(
    spoil: Spoil, word: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, family_folder: FolderOf
) -> None:
    folder = copied(family_folder("llama"), tmp_path / "spoiled")
    spoil(folder)
    check_sentence(refused(capfd, "--model", str(folder)), word, "spoiled")


def test_a_worker_without_a_broker_says_one_sentence(
    capsys: pytest.CaptureFixture[str], family_folder: FolderOf
) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    said = refused(capsys, "--model", str(family_folder("llama")), "--broker", url)
    check_sentence(said, "no broker at", "start mosquitto")


def test_a_worker_with_a_wrong_password_says_one_sentence(
    capsys: pytest.CaptureFixture[str], family_folder: FolderOf, guarded_broker: LocalBroker, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("wrong\n")
    flags = ("--username", "device", "--password-file", str(tmp_path / "password"))
    model = str(family_folder("llama"))
    said = refused(capsys, "--model", model, "--broker", guarded_broker.url, *flags)
    check_sentence(said, "refused the user name or password")


def test_a_worker_process_with_corrupt_weights_says_one_sentence(
    tmp_path: Path, family_folder: FolderOf
) -> None:
    folder = copied(family_folder("llama"), tmp_path / "corrupt")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    arguments = command("cloud_worker", "run", "--model", str(folder))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT)
    check(done, 1, "corrupt")


def test_ctrl_c_while_a_worker_starts_is_one_sentence(family_folder: FolderOf) -> None:
    arguments = command("cloud_worker", "run", "--model", str(family_folder("llama")))
    worker = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    maps = Path(f"/proc/{worker.pid}/maps")
    while "libtorch" not in maps.read_text():  # it is importing now, as it will for seconds
        time.sleep(0.01)
    worker.send_signal(signal.SIGINT)
    _, said = worker.communicate(timeout=TIMEOUT)
    check_sentence(said, "interrupted")
    assert worker.returncode == INTERRUPTED


# -- with a worker -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: SmallModels) -> Iterator[LocalBroker]:
    """A broker with one worker, which takes fewer tokens than the draft model."""
    flags = ("--model", str(models.target("llama")), "--max-context", str(MAX_CONTEXT))
    with LocalBroker(tmp_path_factory.mktemp("served")) as broker, LocalWorker(broker.url, *flags):
        yield broker


def test_models_of_two_families_are_one_sentence(
    served: LocalBroker, draft_folder: FolderOf, tmp_path: Path
) -> None:
    folder = copied(draft_folder("llama"), tmp_path / "other")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = (
        vocabulary["b"],
        vocabulary["a"],
    )  # as little as two families can differ
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = run("generate", "hi", "--quiet", "--model", str(folder), "--broker", served.url)
    check(done, 1, "vocabulary", "one family")


def test_a_prompt_that_is_too_long_for_the_worker_is_one_sentence(
    served: LocalBroker, draft_folder: FolderOf
) -> None:
    done = run(
        *("generate", "turn on the light " * 30, "--quiet", "--scheme", "hlm"),
        *("--model", str(draft_folder("llama")), "--broker", served.url),
    )
    check(done, 1, f"accepts at most {MAX_CONTEXT}", "shorten the prompt")


def test_an_empty_pool_is_one_sentence(served: LocalBroker, draft_folder: FolderOf) -> None:
    flags = ("--pool", "nobody", "--cloud-timeout", "1", "--scheme", "hlm")
    done = run(*asking(draft_folder, served.url, *flags))
    check(done, 1, "no worker answered for 1 s", "no worker serves pool nobody", "cloud-worker run")


def test_a_failure_is_in_the_json_too(served: LocalBroker, draft_folder: FolderOf) -> None:
    flags = ("--pool", "nobody", "--cloud-timeout", "0.5", "--scheme", "hlm", "--json")
    done = run(*asking(draft_folder, served.url, *flags))
    assert done.returncode == 1
    assert "no worker serves pool nobody" in json.loads(done.stdout)["error"]


def test_ctrl_c_in_the_middle_of_a_generation_is_one_sentence(
    served: LocalBroker, draft_folder: FolderOf
) -> None:
    arguments = asking(draft_folder, served.url, "--max-tokens", "100", "--scheme", "hlm")
    agent = start(*["-" if part == "hi" else part for part in arguments], "--lines")
    present(agent.stdin).write("turn on the light\n" * 1000)
    present(agent.stdin).flush()
    assert present(agent.stdout).read(1)
    agent.send_signal(signal.SIGINT)
    _, said = agent.communicate(timeout=TIMEOUT)
    check_sentence(said, "interrupted")
    assert agent.returncode == INTERRUPTED


def test_ctrl_c_while_waiting_for_a_worker_is_one_sentence(
    served: LocalBroker, draft_folder: FolderOf
) -> None:
    flags = ("--pool", "nobody", "--on-cloud-loss", "wait", "--scheme", "hlm", "--log-level", "warning")
    agent = start(*asking(draft_folder, served.url, *flags))
    waiting = present(agent.stderr).readline()
    agent.send_signal(signal.SIGINT)
    _, said = agent.communicate(timeout=TIMEOUT)
    assert "no worker listens in pool nobody" in waiting
    check_sentence(said, "interrupted")
    assert agent.returncode == INTERRUPTED


@pytest.mark.parametrize("chatting", [True, False])
def test_ctrl_c_while_nothing_is_typed_is_one_sentence(
    served: LocalBroker, draft_folder: FolderOf, chatting: bool
) -> None:
    talk = ["chat"] if chatting else ["generate", "-", "--show-tokens"]
    flags = ["--model", str(draft_folder("llama")), "--broker", served.url, "--quiet"]
    agent = start(*talk, *flags)
    present(agent.stderr).readline()  # how to end it, or the legend: it waits for input from now on
    agent.send_signal(signal.SIGINT)
    agent.wait(TIMEOUT)  # its input is still open
    check_sentence(present(agent.stderr).read(), "interrupted")
    assert agent.returncode == INTERRUPTED
    agent.communicate()


def test_a_chat_that_outgrows_the_worker_goes_on_without_its_beginning(
    served: LocalBroker, draft_folder: FolderOf
) -> None:
    flags = ("--model", str(draft_folder("llama")), "--broker", served.url, "--max-tokens", "5", "--quiet")
    line = "turn on the light " * 6 + "\n"
    done = run("chat", *flags, "--scheme", "hlm", input=line * 5 + "hello\n")
    assert done.returncode == 0
    assert done.stdout.count("> ") == 7
    assert "its oldest part is left out" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_chat_that_outgrows_the_draft_model_goes_on_without_its_beginning() -> None:
    lines = ["turn on the kitchen light and the lamp in the bedroom please"] * 30
    done = run("chat", "--scheme", "slm", "--max-tokens", "60", "--quiet", input="\n".join(lines))
    assert done.returncode == 0
    assert done.stdout.count("> ") == 31
    complaints = set(done.stderr.splitlines())
    outgrown = "the conversation is longer than the models take: its oldest part is left out from now on"
    assert f"edge-agent: {outgrown}" in complaints
    assert complaints <= {
        "Ctrl-D ends the conversation.",
        f"edge-agent: {outgrown}",
        "edge-agent: this answer is cut off: the conversation has become as long as the models take",
    }


def test_a_line_that_no_model_takes_does_not_end_a_chat() -> None:
    lines = ["light " * 3000, "turn on the light", "<\ud800"]
    text = "\n".join(lines).encode(errors="surrogatepass")
    arguments = command("edge_agent", "chat", "--scheme", "slm", "--max-tokens", "9", "--quiet")
    done = subprocess.run(arguments, input=text, capture_output=True, timeout=TIMEOUT, check=True)
    assert done.stdout.decode().count("> ") == 4
    check_sentence(done.stderr.decode().removeprefix("Ctrl-D ends the conversation.\n"), "shorten it")


def test_a_chat_ends_with_its_input(served: LocalBroker, draft_folder: FolderOf) -> None:
    flags = ("--model", str(draft_folder("llama")), "--broker", served.url, "--max-tokens", "5", "--quiet")
    done = run("chat", *flags, input="hello\n\nwhat is the time?\n")
    assert done.returncode == 0
    assert done.stdout.count("> ") == 4
    assert done.stderr == "Ctrl-D ends the conversation.\n"
