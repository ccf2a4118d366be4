//! The verbs: reads the command line, resolves the configuration, does the one thing asked for, and turns whatever went
//! wrong into one message and an exit code.

mod args;
mod bench;
mod bench_serve;
mod chat;
mod complete;
mod conversation;
mod cursor;
mod docs;
mod doctor;
mod error;
mod export;
mod health;
mod lane;
mod models;
mod output;
mod token;
mod version;

use crate::auth;
use crate::config::{self, Config, Environment, Flag, Resolution};
use crate::serve;
use args::{CheckConfigArgs, Cli, EngineArgs, KeyVerb, ServeArgs, TokenVerb, Verb};
use clap::{CommandFactory as _, Parser as _};
use error::CliError;
use kernels::gpu::Gpu;
use std::process::ExitCode;

/// Everything `main` does.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has read enough.
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            output::note(&format!("sconce: {error}"));
            error.exit_code()
        }
    }
}

fn dispatch(verb: Verb) -> Result<(), CliError> {
    match verb {
        Verb::Serve(args) => serve(&args),
        Verb::Complete(args) => complete::run(&args),
        Verb::Chat(args) => chat::run(args),
        Verb::Models(args) => models::run(&args),
        Verb::CheckConfig(args) => check_config(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Health(args) => health::run(&args),
        Verb::Token(TokenVerb::Inspect(args)) => token::run(&args),
        Verb::Docs(verb) => docs::run(&verb),
        Verb::Bench(verb) => bench::run(&verb),
        Verb::Export(args) => export::run(&args),
        Verb::Key(KeyVerb::New { name }) => new_key(&name),
        Verb::Completions { shell } => completions(shell),
        Verb::Version => Ok(output::print(&version::text(Gpu::built_for()))?),
    }
}

fn resolve(engine: &EngineArgs, flags: &[Flag]) -> Resolution {
    config::resolve(&Environment::of_process(), engine.config.clone(), flags)
}

/// The configuration of a verb that only wants to hear of trouble.
fn quiet_config(engine: &EngineArgs, flags: &[Flag]) -> Result<Config, CliError> {
    let mut config = resolve(engine, flags).config?;
    if config.log.level == "info" {
        config.log.level = "warn".to_owned();
    }
    serve::start_logging(&config.log);
    Ok(config)
}

fn serve(args: &ServeArgs) -> Result<(), CliError> {
    let config = resolve(&args.engine, &args.flags()).config?;
    serve::start_logging(&config.log);
    Ok(serve::run(config)?)
}

fn check_config(args: &CheckConfigArgs) -> Result<(), CliError> {
    let resolution = resolve(&args.serve.engine, &args.serve.flags());
    if args.json {
        let json = serde_json::to_string_pretty(&resolution.report).expect("a report is plain text and lists");
        output::print(&format!("{json}\n"))?;
    } else {
        output::print(&resolution.report.to_string())?;
    }
    match resolution.config {
        Ok(_) => Ok(()),
        Err(error) => Err(CliError::Refused { problems: error.problems.len() }),
    }
}

fn new_key(name: &str) -> Result<(), CliError> {
    let made = auth::generate_key(name)?;
    let text = format!(
        "key   {}\nline  {}\n\nThe key is shown only now: hand it to {name}. Add the line to the file named by\n\
         auth.keys_file (or SCONCE__AUTH__KEYS_FILE) and restart the server.\n",
        made.key, made.entry
    );
    Ok(output::print(&text)?)
}

fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sconce", &mut script);
    Ok(output::print(&String::from_utf8_lossy(&script))?)
}
