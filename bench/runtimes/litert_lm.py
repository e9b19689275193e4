# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["litert-lm-api==0.18.1"]
#
# [tool.edge]
# megabytes = 150
# environment = "litert-lm"
# platforms = ["Linux x86_64", "Linux aarch64", "Darwin arm64"]
# ///
"""LiteRT-LM, the runtime of phones, on this machine's CPU: `.litertlm`, and the `.task` of MediaPipe and flutter_gemma.

It puts the start token in front of every prompt itself, and one that stands in the text is fed besides: ours is taken
off, and its count of what it prefilled must be one more than the text's tokens. Its text is the model's own, function
tokens included and the stop token left out; which stop token it was, it does not tell. Every call starts a session of
its own, so from an empty context.

The last piece of a long prompt is fed as a whole prefill: where that would end behind the cache, it fails ("Prefill input
length exceeds available state entries"), and so does the row. A cache that is a multiple of the prefill lengths is safe.

What evaluating the prompt took, and when the first token was there, is the runtime's own word; the whole call and the
rest of the answer are measured from outside. Where something failed its rates are 0: no sample, an error.

Packed weights are kept in memory (`CACHE`): of a 270M int8 model 0.64 GB and 0.65 s to load, against 0.99 GB and 0.87 s
without. By default LiteRT-LM leaves a file as large as the model beside it; a second run then takes 0.47 GB and 0.17 s,
so figures would depend on what ran before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from edge.bench.runtimes import Heard
from edge.errors import EdgeError, WorkerError
from edge.export import inspect

CACHE = ":memory"
_FORMATS = ("litertlm", "task")


def load(path: str, options: dict[str, Any]) -> Model:
    return Model(path, options)


class Model:
    """An engine with a bundle. `context` is the bundle's cache, or what was asked for if that is less."""

    def __init__(self, path: str, options: dict[str, Any]) -> None:
        found = inspect.read(path)
        if found.format not in _FORMATS:
            raise EdgeError(f"{path}: LiteRT-LM loads no {found.format}", "it takes .litertlm and .task")
        import litert_lm

        litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
        self._api, self._path, self._format = litert_lm, path, found.format
        self.context = min(options["context"], found.cache_tokens or options["context"])
        started = time.monotonic()
        self._threads = options["threads"]
        self._engine = self._opened()
        self.load_s = time.monotonic() - started
        begin = self._engine.bos_token_id
        self._start = "" if begin is None else self._engine.detokenize([begin])

    def _opened(self) -> Any:
        try:
            return self._api.Engine(
                self._path,
                backend=self._api.Backend.CPU(thread_count=self._threads),
                max_num_tokens=self.context,
                cache_dir=CACHE,
                enable_benchmark=True,
            )
        except RuntimeError as error:
            raise EdgeError(
                f"{self._path}: LiteRT-LM can't load it: {error}", "the log has its reason; `edge lint` it"
            ) from None

    def facts(self) -> dict[str, Any]:
        from importlib.metadata import version

        stops = [self._engine.detokenize(ids) for ids in self._engine.eos_token_ids]
        return {
            "runtime_version": f"litert-lm-api {version('litert-lm-api')}",
            "settings": {"weight_cache": CACHE, "context": self.context, "stops_on": stops},
        }

    def generate(self, rows: list[dict[str, Any]], max_tokens: int) -> Iterator[dict[str, Any]]:
        if rows:
            self._call(rows[0]["prompt"], 4)  # warm-up: packs the weights
        for row in rows:
            yield {"row": row["id"], **self._call(row["prompt"], max_tokens)}

    def answer(self, row: dict[str, Any], max_tokens: int, heard: Heard) -> dict[str, Any]:
        return {"row": row["id"], **self._call(row["prompt"], max_tokens, heard)}

    def ids(self, text: str) -> list[int]:
        """As it feeds them: the start token by its id."""
        text = text.removeprefix(self._start)
        begin = self._engine.bos_token_id
        return [*([] if begin is None else [begin]), *self._engine.tokenize(text)]

    def rates(self, prefill: int, decode: int) -> dict[str, Any]:
        """By LiteRT-LM's own benchmark, which `litert-lm benchmark` runs: ids of its choice, stops ignored.

        It opens an engine of its own; ours is closed meanwhile, so that the peak of memory stays that of one.
        """
        benchmark = self._api.Benchmark(
            self._path,
            backend=self._api.Backend.CPU(thread_count=self._threads),
            prefill_tokens=prefill,
            decode_tokens=decode,
            max_num_tokens=self.context,
            cache_dir=CACHE,
        )
        self._engine.close()
        try:
            told = benchmark.run()
        finally:
            self._engine = self._opened()
        counts = (told.last_prefill_token_count, told.last_decode_token_count)
        if told.last_prefill_tokens_per_second <= 0 or told.last_decode_tokens_per_second <= 0 or counts[0] != prefill:
            what = f"LiteRT-LM took {counts[0]} and {counts[1]} tokens, not {prefill} and {decode}"
            raise EdgeError(f"{self._path}: {what}", f"its cache holds {self.context}: ask for fewer")
        return {
            "prefill_tokens": prefill,
            "prefill_s": prefill / told.last_prefill_tokens_per_second,
            "decode_tokens": counts[1],
            "decode_s": counts[1] / told.last_decode_tokens_per_second,
        }

    def native(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], max_tokens: int) -> dict[str, Any]:
        """The answer as the runtime itself reads it: {"tool_calls": [{"type": "function", "function": {"name",
        "arguments"}}]}, or {"content": [{"type": "text", "text"}]}, for which it also takes a call that was cut off.

        Raises: WorkerError where it refused the answer: for one call that it can't read it drops all of them.
        """
        with self._conversation(messages, tools, max_tokens) as talk:
            try:
                return dict(talk.send_message(messages[-1]).to_json())
            except RuntimeError as error:
                raise WorkerError(f"{self._path}: LiteRT-LM refused its model's answer: {error}") from None

    def render(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
        """The prompt that `native` feeds, with the start token in front, which the runtime adds by its id."""
        with self._conversation(messages, tools, 1) as talk:
            return self._start + str(talk.render_message_to_string(messages[-1]))

    def _call(self, prompt: str, max_tokens: int, heard: Heard | None = None) -> dict[str, Any]:
        if not prompt.startswith(self._start):
            return {"text": None, "error": f"a prompt without {self._start} in front, which LiteRT-LM can't leave out"}
        text = prompt[len(self._start) :]
        count = len(self._engine.tokenize(text)) + (1 if self._start else 0)
        if count + 1 >= self.context:
            why = f"prompt of {count} tokens, context {self.context}"
            return {"text": None, "prompt_tokens": count, "error": why}
        room = min(max_tokens, self.context - count - 1)
        started = time.monotonic()
        with contextlib.closing(self._session(room)) as session:
            asked = time.monotonic()
            try:
                session.run_prefill([text])
                texts = _told(session, heard) if heard else session.run_decode().texts
            except RuntimeError as error:
                return {"text": None, "prompt_tokens": count, "error": f"LiteRT-LM: {error}"}
            end = time.monotonic()
            told = session.get_benchmark_info()
        if not texts or told.last_prefill_tokens_per_second <= 0 or told.last_decode_tokens_per_second <= 0:
            return {"text": None, "prompt_tokens": count, "error": f"LiteRT-LM answered nothing: {told}"}
        if told.last_prefill_token_count != count:
            raise WorkerError(
                f"{self._path}: LiteRT-LM fed {told.last_prefill_token_count} tokens for a prompt of {count}"
            )
        first = told.time_to_first_token_in_second
        return {
            "text": texts[0],
            "prompt_tokens": count,
            "completion_tokens": told.last_decode_token_count,
            "prefill_s": count / told.last_prefill_tokens_per_second,
            "first_token_s": asked - started + first,
            "decode_s": end - asked - first,
            "call_s": end - started,
            "stop": "length" if self._cut(texts[0], told.last_decode_token_count, room) else "a stop token",
        }

    def _cut(self, text: str, count: int, room: int) -> bool:
        """Whether the limit ended an answer: a stop token is counted, and is not in the text."""
        return count >= room and len(self._engine.tokenize(text)) >= count

    def _session(self, max_tokens: int) -> Any:
        return self._engine.create_session(
            apply_prompt_template=False, sampler_config=self._greedy(), max_output_tokens=max_tokens
        )

    @contextlib.contextmanager
    def _conversation(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]], max_tokens: int
    ) -> Iterator[Any]:
        """One with all messages but the last; closed before its engine can be, which would crash."""
        if self._format == "task":
            raise EdgeError(
                f"{self._path}: a .task has no template: LiteRT-LM would feed the messages alone, without tools or turns",
                "use the .litertlm for this",
            )
        tool = _declared(self._api)
        talk = self._engine.create_conversation(
            messages=messages[:-1] or None,
            tools=[tool(t) for t in tools],
            automatic_tool_calling=False,
            sampler_config=self._greedy(),
            max_output_tokens=max_tokens,
        )
        with contextlib.closing(talk):
            yield talk

    def _greedy(self) -> Any:
        """The sampler type GREEDY is not implemented; the best of one is."""
        return self._api.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=0)


def _told(session: Any, heard: Heard) -> list[str]:
    """The answer, told while it is written. After a cancel the runtime still ends its stream by itself."""
    text = ""
    for part in session.run_decode_async():
        text += "".join(part.texts)
        if not heard(text, None):
            session.cancel_process()
    return [text]


def _declared(api: Any) -> Any:
    """A class for tools that are declarations only; its base is in the runtime's package."""

    class Declared(api.Tool):  # type: ignore[misc]
        def __init__(self, declaration: dict[str, Any]) -> None:
            self.declaration = declaration

        def get_tool_description(self) -> dict[str, Any]:
            return self.declaration

        def execute(self, param: Any) -> Any:
            raise NotImplementedError("calls are handed back, never run")

    return Declared
