"""Writes chat_templates.json: what transformers' own Jinja environment makes of chat templates.

The templates have the shape of the published ones of each family (turn markers, white space control, checks of the
order of roles), written again for this purpose. Run with transformers installed; no model and no network is needed.
"""
import json
import pathlib

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

CHATML = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

LLAMA_3 = """{{- bos_token }}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable and message.content is not string %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results") %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] " + tools|tojson + "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- elif message["role"] == "tool" %}
        {%- continue %}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}
{% set add_generation_prompt = false %}
{% endif %}
{%- set ns = namespace(found=false) -%}
{%- for message in messages -%}
    {%- if message['role'] == 'system' -%}
        {%- set ns.found = true -%}
    {%- endif -%}
{%- endfor -%}
{{bos_token}}{%- if not ns.found -%}
{{'You are an assistant for programmers.\\n'}}
{%- endif %}
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
{{ message['content'] }}
    {%- else %}
        {%- if message['role'] == 'user' %}
{{'### Instruction:\\n' + message['content'] + '\\n'}}
        {%- else %}
{% generation %}{{'### Response:\\n' + message['content'] + '\\n<|EOT|>\\n'}}{% endgeneration %}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{% if add_generation_prompt %}
{{'### Response:'}}
{% endif %}
"""

REASONING = """{{ bos_token }}{% for message in messages %}
{%- set content = message.content %}
{%- if message.role == 'assistant' and '</think>' in content %}
    {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if content.startswith('/') and not content.endswith('!') %}{% set content = content.replace('/', '', 1)|upper %}{% endif %}
<|im_start|>{{ message.role.title() }}
{{ content.strip() }}{{ {'a': [1, none, true], 'ü': '<&>'} | tojson }}{{ none }}{{ true }}{{ 1.5 }}<|im_end|>
{%- endfor %}
<|im_start|>Assistant
"""

TEMPLATES = {
    "chatml": (CHATML, {"bos_token": "", "eos_token": "<|im_end|>"}),
    "llama-3": (LLAMA_3, {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}),
    "llama-2": (LLAMA_2, {"bos_token": "<s>", "eos_token": "</s>"}),
    "mistral": (MISTRAL, {"bos_token": "<s>", "eos_token": "</s>"}),
    "deepseek-coder": (DEEPSEEK, {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<|EOT|>"}),
    "reasoning": (REASONING, {"bos_token": "<s>", "eos_token": "</s>"}),
}


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = {
    "one question": [message("user", "What does `x[0] > y` mean?")],
    "system first": [message("system", "  Answer in one line.\n"), message("user", " Hello \n")],
    "several turns": [
        message("system", "Be brief."), message("user", "Hi"), message("assistant", "  Hello! \n"),
        message("user", "def f(x):\n    return x\n\n# explain"), message("assistant", "Returns x."),
        message("user", "Grüße, 你好 😀"),
    ],
    "empty texts": [message("user", ""), message("assistant", ""), message("user", "")],
    "wrong order": [message("user", "a"), message("user", "b")],
    "system late": [message("user", "a"), message("assistant", "b"), message("system", "c"), message("user", "d")],
    "reasoning kept out": [message("user", "/quick"), message("assistant", "<think>\nhm </think>\n\nYes."), message("user", "/why!")],
    "tool answer": [message("user", "Time?"), message("assistant", "Let me see."), message("tool", "12:00"), message("user", "ok")],
}


def render(template, conversation, names):
    try:
        rendered, _ = render_jinja_template([conversation], chat_template=template, add_generation_prompt=True, **names)
        return {"text": rendered[0]}
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)}


cases = [
    {"template": name, "conversation": title, "messages": conversation, **render(template, conversation, names)}
    for name, (template, names) in TEMPLATES.items() for title, conversation in CONVERSATIONS.items()
]
golden = {
    "provenance": {"made_by": "models/cards/golden/make.py", "transformers": transformers.__version__, "jinja2": jinja2.__version__},
    "templates": {name: {"source": template, **names} for name, (template, names) in TEMPLATES.items()},
    "cases": cases,
}
path = pathlib.Path(__file__).with_name("chat_templates.json")
path.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
print(f"{len(cases)} cases, {sum('refused' in case for case in cases)} of them refused")
