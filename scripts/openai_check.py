#!/usr/bin/env python3
"""Checks a running Sconce with the unmodified `openai` package.

    scripts/openai_check.py http://127.0.0.1:5052 [API_KEY]

Needs `pip install openai`. Uses the first model that is served; what that model cannot do (infill, chat) is expected
to be refused. Prints one line a check; exits with 1 if one failed.
"""

import sys

try:
    import openai
except ImportError:
    sys.exit("the openai package is missing: pip install openai")

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def expect(condition, *found):
    if not condition:
        raise AssertionError(" ".join(str(item) for item in found) or "not as expected")


def expect_error(kind, call, code=None):
    try:
        call()
    except kind as error:
        expect(type(error) is kind, "raised", type(error).__name__)
        expect(code is None or error.code == code, "code is", error.code)
        expect(isinstance(error.body, dict) and error.body.get("message"), "body is", error.body)
        return error
    raise AssertionError(f"{kind.__name__} with code {code} was expected")


class Session:
    def __init__(self, url, key):
        self.url = url.rstrip("/") + "/v1"
        self.key = key
        self.client = self.client_with(key)
        model = self.client.models.list().data[0]
        self.model = model.id
        self.abilities = model.model_extra.get("sconce", {})

    def client_with(self, key):
        return openai.OpenAI(base_url=self.url, api_key=key or "none", max_retries=0, timeout=120)

    def complete(self, **fields):
        fields = {"model": self.model, "prompt": "def add(a, b):", "max_tokens": 8, **fields}
        return self.client.completions.create(**fields)

    def chat(self, **fields):
        messages = [{"role": "user", "content": "Say hello."}]
        fields = {"model": self.model, "messages": messages, "max_tokens": 8, **fields}
        return self.client.chat.completions.create(**fields)


@check
def models_are_listed_and_retrieved(session):
    ids = [model.id for model in session.client.models.list()]
    expect(session.model in ids, ids)
    expect(session.client.models.retrieve(session.model).object == "model")
    expect_error(openai.NotFoundError, lambda: session.client.models.retrieve("no-such-model"), "model_not_found")


@check
def completion(session):
    answer = session.complete(temperature=0)
    expect(answer.object == "text_completion" and answer.model == session.model, answer)
    expect(answer.choices[0].finish_reason in ("stop", "length"), answer)
    expect(answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens, answer.usage)
    expect(answer.usage.prompt_tokens_details.cached_tokens >= 0, answer.usage)
    expect(session.complete(temperature=0).choices[0].text == answer.choices[0].text, "greedy answers differ")


@check
def completion_of_several_prompts(session):
    answer = session.complete(prompt=["def f(", "fn main("], n=2)
    expect([choice.index for choice in answer.choices] == [0, 1, 2, 3], answer)


@check
def completion_of_token_ids(session):
    expect(len(session.complete(prompt=[5, 6, 7]).choices) == 1)


@check
def seeds_repeat(session):
    texts = [session.complete(seed=-7, temperature=1).choices[0].text for _ in range(2)]
    expect(texts[0] == texts[1], texts)


@check
def infill(session):
    def ask():
        return session.complete(prompt="def add(a, b):\n    return ", suffix="\n\nprint(add(1, 2))\n")

    if not session.abilities.get("infill", True):
        expect_error(openai.BadRequestError, ask, "unsupported_by_model")
        return
    expect(ask().choices[0].text is not None)


@check
def completion_streamed(session):
    whole = session.complete(temperature=0)
    chunks = list(session.complete(temperature=0, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    expect(text == whole.choices[0].text, repr(text), "is not", repr(whole.choices[0].text))
    expect(chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, chunks[-1])
    expect(all(chunk.usage is None for chunk in chunks[:-1]))
    expect(chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason, chunks[-2])


@check
def completion_logprobs(session):
    logprobs = session.complete(logprobs=2, temperature=0, max_tokens=4).choices[0].logprobs
    expect(1 <= len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset), logprobs)
    expect(all(value <= 0 for value in logprobs.token_logprobs), logprobs)
    expect(all(len(top) >= 2 for top in logprobs.top_logprobs), logprobs)


def needs_chat(function):
    def run(session):
        if session.abilities.get("chat", True):
            function(session)
        else:
            expect_error(openai.BadRequestError, session.chat, "unsupported_by_model")

    run.__name__ = function.__name__
    return run


@check
@needs_chat
def chat(session):
    answer = session.chat(temperature=0, n=2)
    expect(answer.object == "chat.completion" and len(answer.choices) == 2, answer)
    expect(answer.choices[0].message.role == "assistant", answer)
    expect(answer.choices[0].message.content == answer.choices[1].message.content, "greedy answers differ")
    sent_back = [{"role": "user", "content": "Hi"}, answer.choices[0].message, {"role": "user", "content": "More"}]
    expect(session.chat(messages=sent_back).choices[0].message.content is not None)


@check
@needs_chat
def chat_streamed(session):
    whole = session.chat(temperature=0)
    chunks = list(session.chat(temperature=0, stream=True, stream_options={"include_usage": True}))
    expect(chunks[0].choices[0].delta.role == "assistant", chunks[0])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    expect(text == whole.choices[0].message.content, repr(text), "is not", repr(whole.choices[0].message.content))
    expect(chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens, chunks[-1])


@check
@needs_chat
def chat_logprobs(session):
    content = session.chat(logprobs=True, top_logprobs=2, max_tokens=4).choices[0].logprobs.content
    expect(content and all(len(token.top_logprobs) == 2 and token.bytes is not None for token in content), content)


@check
def cancellation(session):
    for _ in range(5):
        stream = session.complete(stream=True, max_tokens=200)
        next(iter(stream))
        stream.close()
    expect(len(session.complete(max_tokens=1).choices) == 1)


@check
def errors_are_the_packages_own(session):
    bad = openai.BadRequestError
    expect_error(openai.NotFoundError, lambda: session.complete(model="no-such-model"), "model_not_found")
    expect_error(bad, lambda: session.complete(temperature=3), "invalid_value")
    expect_error(bad, lambda: session.complete(n=1000), "invalid_value")
    expect_error(bad, lambda: session.complete(max_tokens=0), "invalid_value")
    expect_error(bad, lambda: session.complete(prompt=""), "invalid_value")
    expect_error(bad, lambda: session.complete(echo=True), "unsupported_parameter")
    expect_error(bad, lambda: session.complete(extra_body={"temprature": 1}), "unknown_parameter")
    expect_error(bad, lambda: session.complete(prompt="a " * 500_000), "context_length_exceeded")
    expect_error(bad, lambda: session.complete(prompt="a " * 500_000, stream=True), "context_length_exceeded")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    expect_error(bad, lambda: session.chat(tools=tools), "unsupported_parameter")
    error = expect_error(bad, lambda: session.chat(response_format={"type": "json_object"}), "unsupported_parameter")
    expect(error.param == "response_format" and error.request_id, error.param, error.request_id)


@check
def keys_are_needed_where_there_are_keys(session):
    if not session.key:
        return
    stranger = session.client_with("sk-sconce-not-a-key-of-this-server")
    error = expect_error(openai.AuthenticationError, stranger.models.list, "invalid_api_key")
    expect("not-a-key" not in str(error), error)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    session = Session(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None)
    print(f"openai {openai.__version__}, {session.url}, model {session.model} {session.abilities}")
    failures = 0
    for function in CHECKS:
        try:
            function(session)
        except (AssertionError, openai.OpenAIError) as error:
            failures += 1
            print(f"FAILED  {function.__name__}: {type(error).__name__}: {error}")
        else:
            print(f"ok      {function.__name__}")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
