//! The log: to standard error, text for people and one JSON object a line for machines.

use crate::config::{Log, LogFormat};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Starts logging for this process; has no effect the second time.
pub fn start(log: &Log) {
    let is_terminal = std::io::stderr().is_terminal();
    let is_text = match log.format {
        LogFormat::Auto => is_terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // `new` parses the text only; the environment is the business of `config`.
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(&log.level)).with_writer(std::io::stderr);
    let started = if is_text {
        builder.with_ansi(is_terminal && log.may_colour).try_init()
    } else {
        builder.json().flatten_event(true).with_span_list(false).try_init()
    };
    // Only a test that runs several servers in one process gets here twice.
    drop(started);
}
