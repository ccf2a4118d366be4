//! How languages write comments, texts and blocks: as much as is needed to tell brackets in code from brackets in texts.

/// What a scanner has to know of a language.
#[derive(Debug)]
pub struct Syntax {
    pub line_comments: &'static [&'static str],
    pub block_comment: Option<(&'static str, &'static str)>,
    /// Quotes of texts that end on their line.
    pub quotes: &'static [char],
    /// Quotes of texts that may go over several lines.
    pub long_quotes: &'static [char],
    /// Whether a quote written three times opens a long text.
    pub has_triple_quotes: bool,
    /// Whether `'x'` is a character, and a lone `'` something else.
    pub has_characters: bool,
    pub blocks: Blocks,
}

/// What marks a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Indentation under a line that ends in a colon, as in Python.
    Python,
    Brackets,
    /// A word at the beginning and `end` at the end, as in Ruby.
    Words,
    /// Angle brackets with names, as in HTML.
    Tags,
}

const C_LIKE: Syntax = Syntax {
    line_comments: &["//"],
    block_comment: Some(("/*", "*/")),
    quotes: &['"'],
    long_quotes: &[],
    has_triple_quotes: false,
    has_characters: true,
    blocks: Blocks::Brackets,
};
const PYTHON: Syntax = Syntax {
    line_comments: &["#"],
    block_comment: None,
    quotes: &['"', '\''],
    has_triple_quotes: true,
    has_characters: false,
    blocks: Blocks::Python,
    ..C_LIKE
};
const SCRIPT: Syntax = Syntax { quotes: &['"', '\''], long_quotes: &['`'], has_characters: false, ..C_LIKE };
const GO: Syntax = Syntax { long_quotes: &['`'], ..C_LIKE };
const KOTLIN: Syntax = Syntax { has_triple_quotes: true, ..C_LIKE };
const PHP: Syntax = Syntax { line_comments: &["//", "#"], long_quotes: &[], ..SCRIPT };
const RUBY: Syntax = Syntax {
    line_comments: &["#"],
    block_comment: None,
    quotes: &['"', '\'', '`'],
    has_characters: false,
    blocks: Blocks::Words,
    ..C_LIKE
};
const ELIXIR: Syntax = Syntax { has_triple_quotes: true, ..RUBY };
const SHELL: Syntax = Syntax {
    line_comments: &["#"],
    block_comment: None,
    quotes: &[],
    long_quotes: &['"', '\''],
    has_characters: false,
    ..C_LIKE
};
const HASH: Syntax = Syntax { block_comment: None, long_quotes: &[], quotes: &['"', '\''], ..SHELL };
const DASHES: Syntax = Syntax { line_comments: &["--"], ..C_LIKE };
const SQL: Syntax = Syntax { quotes: &['\'', '"'], has_characters: false, ..DASHES };
const LUA: Syntax =
    Syntax { quotes: &['"', '\''], block_comment: Some(("--[[", "]]")), blocks: Blocks::Words, ..DASHES };
const HASKELL: Syntax = Syntax { block_comment: Some(("{-", "-}")), ..DASHES };
const LISP: Syntax = Syntax { line_comments: &[";"], block_comment: None, ..C_LIKE };
const PERCENT: Syntax = Syntax { line_comments: &["%"], block_comment: None, ..C_LIKE };
const ML: Syntax = Syntax { line_comments: &[], block_comment: Some(("(*", "*)")), ..C_LIKE };
const MARKUP: Syntax = Syntax {
    line_comments: &[],
    block_comment: Some(("<!--", "-->")),
    quotes: &[],
    has_characters: false,
    blocks: Blocks::Tags,
    ..C_LIKE
};
/// For languages nobody described: only brackets and plain double quotes.
const UNKNOWN: Syntax = Syntax { line_comments: &[], block_comment: None, ..C_LIKE };

/// The syntax of a language of the table in `feature::language`, by its id.
pub fn syntax_of(language: &str) -> &'static Syntax {
    match language {
        "python" | "starlark" => &PYTHON,
        "js" | "ts" => &SCRIPT,
        "go" => &GO,
        "kotlin" | "scala" | "swift" | "java" | "groovy" => &KOTLIN,
        "php" => &PHP,
        "ruby" | "crystal" | "julia" => &RUBY,
        "elixir" => &ELIXIR,
        "bash" | "zsh" | "fish" => &SHELL,
        "awk" | "dockerfile" | "r" | "perl" | "terraform" | "hcl" | "nix" | "nim" | "mojo" | "gdscript" | "tcl"
        | "powershell" | "robot" | "yaml" | "yml" | "toml" | "make" | "cmake" => &HASH,
        "sql" | "plsql" => &SQL,
        "lua" | "luau" => &LUA,
        "haskell" | "elm" | "purescript" | "idris" => &HASKELL,
        "ada" | "vhdl" => &DASHES,
        "clojure" | "commonlisp" | "elisp" | "scheme" | "racket" | "fennel" | "janet" => &LISP,
        "erlang" | "prolog" | "matlab" | "tex" => &PERCENT,
        "ocaml" | "fsharp" => &ML,
        "html" | "htm" | "xml" | "vue" | "svelte" | "md" | "markdown" | "erb" | "haml" => &MARKUP,
        "c" | "cpp" | "csharp" | "rust" | "dart" | "d" | "zig" | "v" | "vv" | "cuda" | "objc" | "solidity" | "glsl"
        | "hlsl" | "wgsl" | "haxe" | "odin" | "jai" | "move" | "cairo" | "c3" | "pony" | "verilog"
        | "systemverilog" | "css" | "scss" | "less" | "proto" | "apex" | "arduino" | "ql" | "rescript" | "hack"
        | "bicep" | "pascal" | "devicetree" => &C_LIKE,
        _ => &UNKNOWN,
    }
}
