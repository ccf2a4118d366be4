mod clouds;
mod gateway;
mod routing;

use super::*;

pub fn resolve_with(environment: Environment, toml: Option<&str>, flags: &[Flag]) -> Resolution {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = toml.map(|text| {
        let path = dir.path().join("sconce.toml");
        std::fs::write(&path, text).expect("the folder is writable");
        path
    });
    resolve(&environment, file, flags)
}

#[track_caller]
pub fn check_problem(toml: &str, parts: &[&str]) {
    let error = resolve_with(Environment::default(), Some(toml), &[]).config.expect_err("a problem").to_string();
    for part in parts {
        assert!(error.contains(part), "`{part}` is missing from: {error}");
    }
    assert!(!error.contains("sk-secret"), "shows a secret: {error}");
}

#[test]
fn defaults_stand_alone() {
    let config = resolve_with(Environment::default(), None, &[]).config.expect("the defaults are valid");
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:5052");
    assert_eq!((config.engine.kv_memory, config.engine.device), (None, DeviceChoice::Auto));
    assert!(config.catalog.is_embedded_served && config.models.is_empty());
    assert!(!config.auth.is_configured());
    assert!(!config.metrics.expect("on by default").is_required);
}

#[test]
fn later_layers_win_and_are_named() {
    let toml = "[engine]\nthreads = 2\nkv_memory = \"64MiB\"\nrunning_max = 3\n";
    let environment = Environment::from([("SCONCE__ENGINE__KV_MEMORY", "128MiB"), ("SCONCE__ENGINE__THREADS", "")]);
    let resolution = resolve_with(environment, Some(toml), &[Flag::new("--threads", "engine.threads", "4")]);
    let config = resolution.config.expect("valid");
    assert_eq!((config.engine.threads.get(), config.engine.kv_memory), (4, Some(Bytes(128 << 20))));
    assert_eq!(config.engine.running_max.map(usize::from), Some(3));
    let origin = |key: &str| {
        let row = resolution.report.settings.iter().find(|row| row.key == key);
        row.expect("every key is reported").origin.clone()
    };
    assert_eq!(origin("engine.threads"), "flag --threads");
    assert_eq!(origin("engine.kv_memory"), "environment SCONCE__ENGINE__KV_MEMORY");
    assert!(origin("engine.running_max").starts_with("file ") && origin("engine.running_max").ends_with("sconce.toml"));
    assert_eq!(origin("engine.waiting_max"), "default");
}

#[test]
fn every_key_is_read_and_reported() {
    let report = resolve_with(Environment::default(), None, &[]).report;
    let mut reported: Vec<&str> = report.settings.iter().map(|row| row.key.as_str()).collect();
    let mut known: Vec<&str> = keys::KEYS.iter().map(|key| key.name).collect();
    reported.sort_unstable();
    known.sort_unstable();
    assert_eq!(reported, known);
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    check_problem(
        "[server]\nlistn = \"127.0.0.1:1\"\n",
        &["sconce.toml", "`server.listn`", "did you mean `server.listen`"],
    );
    check_problem("[sever]\nlisten = \"127.0.0.1:1\"\n", &["`sever.listen`", "did you mean `server.listen`"]);
    check_problem("threads = 3\n", &["unknown key `threads`", "`engine.threads`"]);
    check_problem("[models.a]\npath = \"x\"\nquantize = \"q8_0\"\n", &["did you mean `models.a.quantise`"]);
    check_problem("[models]\na = \"x\"\n", &["[models.a]"]);
    check_problem("[zebra]\nfoo = 1\n", &["unknown key `zebra.foo`", "check-config"]);
}

#[test]
fn unknown_variables_are_errors_with_a_suggestion() {
    for (name, expected) in [
        ("SCONCE__ENGINE__THREAD", "did you mean `SCONCE__ENGINE__THREADS`"),
        ("SCONCE_ENGINE__THREADS", "did you mean `SCONCE__ENGINE__THREADS`"),
        ("SCONCE__MODELS__CODER__PTH", "did you mean `SCONCE__MODELS__CODER__PATH`"),
    ] {
        let error = resolve_with(Environment::from([(name, "3")]), None, &[]).config.expect_err("unknown").to_string();
        assert!(error.contains(&format!("environment {name}")) && error.contains(expected), "{error}");
    }
    let foreign = Environment::from([("SCONCE_PORT", "tcp://10.0.0.1:80"), ("SCONCE_SERVICE_HOST", "10.0.0.1")]);
    resolve_with(foreign, None, &[]).config.expect("variables of a cluster are not ours");
}

#[test]
fn wrong_values_name_the_place() {
    check_problem("[engine]\nthreads = \"many\"\n", &["sconce.toml", "`engine.threads`", "\"many\"", "from 1 to 1024"]);
    check_problem("[engine]\nthreads = 0\n", &["is 0", "from 1 to 1024"]);
    check_problem("[engine]\nthreads = -1\n", &["is -1"]);
    check_problem("[engine]\nwaiting_max = 99999999999\n", &["99999999999"]);
    check_problem("[engine]\nchat_share = nan\n", &["NaN", "between 0 and 1"]);
    check_problem("[engine]\nchat_share = 1.5\n", &["1.5"]);
    check_problem("[engine]\nkv_memory = \"0\"\n", &["1MiB"]);
    check_problem("[engine]\nkv_memory = \"lots\"\n", &["\"lots\"", "512MiB"]);
    check_problem(
        "[engine]\nrunning_max = 600\nstep_tokens_max = 512\n",
        &["engine.running_max is 600", "engine.step_tokens_max of 512"],
    );
    check_problem("[server]\nlisten = \"example.com:80\"\n", &["example.com:80"]);
    check_problem("[server]\nlisten = 5052\n", &["is 5052", "127.0.0.1:5052"]);
    check_problem("[auth]\nkeys = \"sk-secret\"\n", &["auth.keys", "hidden"]);
    check_problem("[log]\nlevel = \"loud,,=\"\n", &["log.level"]);
    check_problem("[log]\nformat = \"xml\"\n", &["auto, text, json"]);
    check_problem("[catalog]\nembedded = \"off\"\n", &["no model"]);
    check_problem("[models.\"a b\"]\npath = \"x\"\n", &["a b"]);
    check_problem("[models.a]\ncard = \"x\"\n", &["`a` has no path"]);
    check_problem("[server\n", &["not TOML", "1"]);
    check_problem("engine = 3\n", &["unknown key `engine`"]);
}

#[test]
fn every_problem_is_told_at_once() {
    check_problem("[engine]\nthreads = 0\nrunning = 3\n[log]\nformat = 1\n", &["threads", "running", "log.format"]);
}

#[test]
fn an_open_port_needs_keys() {
    check_problem("[server]\nlisten = \"0.0.0.0:5052\"\n", &["SCONCE__AUTH__KEYS_FILE", "keys_file", "sconce key new"]);
    check_problem("[server]\nlisten = \"[::]:5052\"\n", &["[::]:5052"]);
    for safe in ["127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"] {
        let flags = [Flag::new("--listen", "server.listen", safe)];
        resolve_with(Environment::default(), None, &flags).config.expect(safe);
    }
    let open = [Flag::new("--listen", "server.listen", "0.0.0.0:1")];
    let keys = Environment::from([("SCONCE__AUTH__KEYS", "sk-secret, sk-other,")]);
    let resolution = resolve_with(keys, None, &open);
    assert_eq!(resolution.config.expect("keys are configured").auth.keys.len(), 2);
    assert!(!format!("{} {:?}", resolution.report, resolution.report).contains("sk-secret"));
}

#[test]
fn models_inherit_from_the_engine() {
    let toml = "[engine]\nquantise = \"q8_0\"\n[models.\"qwen2.5-coder\"]\npath = \"weights\"\ncontext_tokens = 4096\n";
    let flags = [Flag::of_model("--model", "other/1.0", "path", "b.gguf")];
    let config = resolve_with(Environment::default(), Some(toml), &flags).config.expect("valid");
    let [other, qwen] = &config.models[..] else { panic!("two models: {:?}", config.models) };
    assert_eq!((other.name.as_str(), other.path.to_str()), ("other/1.0", Some("b.gguf")));
    assert!(qwen.path.is_absolute() && qwen.path.ends_with("weights"), "relative to the file: {:?}", qwen.path);
    assert_eq!((qwen.quantise, qwen.context_tokens), (Quantise::Q8_0, NonZeroUsize::new(4096)));
    assert!(!config.catalog.is_embedded_served, "a configured model takes the embedded one's place");
}

#[test]
fn a_missing_file_is_named() {
    let error = resolve(&Environment::default(), Some("/nowhere/sconce.toml".into()), &[]).config.expect_err("missing");
    assert!(error.to_string().contains("/nowhere/sconce.toml"), "{error}");
    let by_variable = Environment::from([("SCONCE_CONFIG", "/nowhere/else.toml")]);
    let error = resolve(&by_variable, None, &[]).config.expect_err("missing");
    assert!(error.to_string().contains("/nowhere/else.toml"), "{error}");
}
