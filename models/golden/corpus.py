"""The text the tiny tokenizers are trained on: written for this purpose, repeated with seeded variations."""
import random

SNIPPETS = [
    '''def moving_average(values, width):
    """Return the mean of each window of `width` values."""
    if width <= 0:
        raise ValueError(f"width must be positive, got {width}")
    total = sum(values[:width])
    result = [total / width]
    for index in range(width, len(values)):
        total += values[index] - values[index - width]
        result.append(total / width)
    return result
''',
    '''class Counter:
    def __init__(self, start=0):
        self.value = start

    def increment(self, by=1):
        self.value += by
        return self.value

    def __repr__(self):
        return "Counter(%d)" % self.value
''',
    '''pub fn parse_header(line: &str) -> Result<(String, u64), ParseError> {
    let (name, value) = line.split_once(':').ok_or(ParseError::MissingColon)?;
    let value = value.trim().parse().map_err(|_| ParseError::NotANumber)?;
    Ok((name.to_owned(), value))
}
''',
    '''#include <stdio.h>

int main(int argc, char **argv) {
\tfor (int i = 1; i < argc; i++) {
\t\tprintf("%d: %s\\n", i, argv[i]);
\t}
\treturn 0;
}
''',
    '''const total = items.filter((item) => item.price > 10).map((item) => item.price * 1.19).reduce((a, b) => a + b, 0);
console.log(`total: ${total.toFixed(2)} €`);
''',
    '''The server didn't answer within 250 ms, so we'll try again; it's what they've asked for and I'm sure you'd agree.
Don't forget: 1234567890 requests, 3.14159 seconds, 0xDEADBEEF bytes, 2026-01-31.
''',
    '''Füße, naïve café, Ærøskøbing, Straße; Привет, мир! Как дела? 你好,世界。代码补全很快。 こんにちは 안녕하세요 שלום مرحبا 😀🎉
''',
]
NAMES = ["index", "value", "total", "result", "buffer", "name", "path", "line", "count", "offset", "token", "length"]
VERBS = ["read", "write", "parse", "update", "collect", "filter", "insert", "remove", "compare", "encode"]


def lines():
    """About 12 KB of text, the same on every call."""
    rng = random.Random(20)
    out = list(SNIPPETS) * 2
    for _ in range(60):
        verb, name, other = rng.choice(VERBS), rng.choice(NAMES), rng.choice(NAMES)
        out.append(f"def {verb}_{name}({name}, {other}={rng.randint(0, 9999)}):\n"
                   f"    if {name} is None:\n        return {other}\n"
                   f"    return self.{verb}({name} + {other})\n\n")
    return [line for text in out for line in text.splitlines(keepends=True)]


# Strings that have broken tokenizers before: each is encoded by every kind.
TRICKY = [
    "", " ", "  ", "   leading", "trailing   ", "\n", "\n\n\n", "\r\n", "a\r\nb\r\n\r\nc", "\t", "\t\tif x:\n\t\t\treturn y",
    "def f(x):\n    return x + 1\n", "        eight spaces\n    four\n", "a  b   c    d", "x\n \n  \n   y", "end of line \n", "tab\tand space \t mix",
    "0", "12", "123", "1234", "1234567890", "3.14159e-10", "0xDEADBEEF", "v1.2.3-rc4", "٣٤٥ १२३ ⅷ ½ ²",
    "don't can't we'll I'm you've they'd it's", "DON'T CAN'T WE'LL I'M", "'tis ''quoted'' 'a", "l'été d’automne",
    "HelloWorld helloWorld HELLO_world XMLHttpRequest2", "foo->bar::baz(&mut qux)?;", "!!!???...;;;", "(((([[[[{{{{", "===>>>|||&&&",
    "http://example.org:8080/a/b?c=d&e=%20#f", "path\\to\\file.txt /usr/bin//env", "//comment\n/* block */\n#!/bin/sh\n",
    "Füße naïve café", "cafe\u0301 e\u0301\u0323 a\u030a \u00e5 \u212b", "Привет, мир!", "你好,世界。代码补全很快。", "日本語のテキスト、カタカナ", "안녕하세요 한국어",
    "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "ภาษาไทย", "😀", "🎉🎊 👩‍👩‍👧‍👦 🇩🇪 👍🏽", "a😀b 😀 c", "\u200b\u200d\ufeff", "\u00a0non\u00a0breaking\u2003em\u3000full",
    "ｆｕｌｌｗｉｄｔｈ １２３！", "ﬁ ﬂ ǆ ǅ Ǆ", "ẞ ß ſ İ ı", "∑∫√≠≤≥", "→←↑↓ ─│┌┐", "\u2581underscore \u2581\u2581two", "<0x0A> <0xFF>", "\x00\x01\x7f", "\u0085\u2028\u2029",
    "𝒳𝓎𝓏 𐐀𐐁𐐨 𠀀𠀁", "a\u0300\u0301\u0302\u0303", "end\n\n", "    \n    \n", "return\n\n\n\n    pass", "x = {'a': 1, \"b\": [2, 3]}", "ÅÄÖ åäö ÅÄÖ", "\"\"\"doc\"\"\"",
]
