use super::card::fits_pattern;
use super::*;

fn facts_with<'a>(
    names: &'a [&'a str],
    architecture: &'a str,
    has_special_token: &'a dyn Fn(&str) -> bool,
) -> ModelFacts<'a> {
    ModelFacts { names, architecture, has_special_token }
}

#[test]
fn embedded_cards_are_valid_and_all_listed() {
    let catalog = Catalog::load(None).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/cards");
    if directory.is_dir() {
        let mut on_disk: Vec<String> = read_directory(&directory)
            .unwrap()
            .iter()
            .map(|(path, _)| path.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        on_disk.sort();
        assert_eq!(on_disk, EMBEDDED.iter().map(|(file, _)| file.to_string()).collect::<Vec<_>>());
    }
    for card in catalog.cards() {
        assert_eq!(catalog.card(&card.name), Some(card));
    }
}

#[test]
fn models_of_other_servers_are_known_by_their_names() {
    let catalog = Catalog::load(None).unwrap();
    for (name, card) in [
        ("Qwen/Qwen2.5-Coder-7B-Instruct", Some("qwen2.5-coder")),
        ("accounts/fireworks/models/qwen2.5-coder-7b", Some("qwen2.5-coder")),
        ("codestral-2501", Some("codestral")),
        ("CodeLlama-13b-hf", Some("codellama")),
        ("gpt-4o", None),
        ("sconce", None),
    ] {
        assert_eq!(catalog.served_as(name).map(|card| card.name.as_str()), card, "{name}");
    }
}

#[test]
fn the_most_specific_card_wins() {
    let catalog = Catalog::load(None).unwrap();
    let recognised = |names: &[&str], architecture: &str, tokens: &[&str]| {
        let has = |token: &str| tokens.contains(&token);
        catalog.recognise(facts_with(names, architecture, &has)).map(|card| card.name.clone())
    };
    let chatml = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
    let fim = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"];
    let qwen: Vec<&str> = chatml.iter().chain(&fim).chain(&["<|repo_name|>", "<|file_sep|>"]).copied().collect();
    let own: Vec<&str> = chatml.iter().chain(&fim).copied().collect();
    assert_eq!(recognised(&["x"], "qwen2", &qwen).as_deref(), Some("qwen2.5-coder"));
    assert_eq!(recognised(&["sconce-code-1"], "llama", &own).as_deref(), Some("sconce"));
    assert_eq!(recognised(&["x"], "qwen2", &chatml).as_deref(), Some("chatml"));
    assert_eq!(recognised(&["x"], "llama", &["▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"]).as_deref(), Some("codellama"));
    assert_eq!(recognised(&["x"], "llama", &["[INST]", "[PREFIX]", "[SUFFIX]"]).as_deref(), Some("codestral"));
    assert_eq!(
        recognised(&["x"], "llama", &["<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"]).as_deref(),
        Some("deepseek-coder")
    );
    assert_eq!(recognised(&["x"], "llama", &["<s>", "</s>"]), None);
}

#[test]
fn a_directory_adds_and_replaces_cards() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.toml"), "name = \"mine\"\n[match]\nnames = [\"mine-*\"]\n").unwrap();
    std::fs::write(directory.path().join("b.toml"), "name = \"codellama\"\ndescription = \"changed\"\n").unwrap();
    std::fs::write(directory.path().join("notes.txt"), "not a card").unwrap();
    let catalog = Catalog::load(Some(directory.path())).unwrap();
    assert_eq!(catalog.card("codellama").unwrap().description, "changed");
    let nothing = |_: &str| false;
    assert_eq!(catalog.recognise(facts_with(&["Mine-7b"], "llama", &nothing)).unwrap().name, "mine");
    std::fs::write(directory.path().join("c.toml"), "name = \"mine\"\n").unwrap();
    assert!(matches!(Catalog::load(Some(directory.path())), Err(CatalogError::DuplicateName { .. })));
}

#[test]
fn broken_cards_are_errors_that_name_the_card() {
    let check = |text: &str, wanted: &str| {
        let error = Card::parse("x.toml", text).unwrap_err().to_string();
        assert!(error.contains("x.toml") && error.contains(wanted), "{error}");
    };
    check("name = \"x\"\nstop = 1\n", "unknown field `stop`");
    check("name = \"x\"\n[infill]\norder = \"psm\"\norders = {}\n", "not among its orders");
    check("name = \"x\"\n[infill]\norder = \"p\"\norders = { p = [\"{prefix}\"] }\n", "Suffix 0 times");
    check("name = \"x\"\n[infill]\norder = \"p\"\norders = { p = [\"{middle}\"] }\n", "{middle}");
    check("name = \"\"\n", "name is empty");
    check("nonsense", "x.toml");
}

#[test]
fn patterns_fit_without_case() {
    for (pattern, name, fits) in [
        ("sconce*", "Sconce-Code-1", true),
        ("sconce", "sconce-code", false),
        ("*coder*", "Qwen2.5-Coder-7B", true),
        ("*coder*7b", "qwen2.5-coder-7b", true),
        ("*coder*7b", "qwen2.5-coder-7b-instruct", false),
        ("a*a", "a", false),
        ("*", "", true),
    ] {
        assert_eq!(fits_pattern(pattern, name), fits, "{pattern} {name}");
    }
}
