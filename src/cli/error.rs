//! What ends a verb early, and the exit code it ends with. The codes are part of the interface: `sconce --help` lists
//! them.

use super::cursor::CursorError;
use super::health::Finding;
use crate::auth::KeyError;
use crate::bench::BenchError;
use crate::bench::serve::ServeBenchError;
use crate::config::ConfigError;
use crate::domain::GenerateError;
use crate::search::{ImportError, SearchError};
use crate::serve::ServeError;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error("the configuration was refused\n{0}")]
    Config(#[from] ConfigError),
    #[error("{problems} problem(s) in the configuration")]
    Refused { problems: usize },
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("several models are configured: choose one with --model ({})", .names.join(", "))]
    WhichModel { names: Vec<String> },
    #[error("there is no model `{asked}`: neither configured ({}) nor a path", .names.join(", "))]
    NoSuchModel { asked: String, names: Vec<String> },
    #[error("nothing was asked: give a message, or pipe one in")]
    NothingAsked,
    #[error("the question has more than {bytes_max} bytes")]
    QuestionTooLarge { bytes_max: u64 },
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Search(#[from] SearchError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    BenchServe(#[from] ServeBenchError),
    #[error("{failed} request(s) failed")]
    RequestsFailed { failed: usize },
    #[error("cannot write {}: {source}", .path.display())]
    ReportFile { path: PathBuf, source: std::io::Error },
    #[error("no place for the index is known: set state.dir or gitlab.docs_index, or name a file with --index")]
    NoDocsIndex,
    #[error(
        "there is nothing to export: the built-in model stays here; name models of yours in the configuration or with --model"
    )]
    ExportNothing,
    #[error(
        "model {name} is the file {}, and vLLM serves folders of Hugging Face's format: say where the cluster finds the \
         same model with --source {name}=SOURCE",
        .path.display()
    )]
    ExportFormat { name: String, path: PathBuf },
    #[error("{failed} check(s) failed")]
    ChecksFailed { failed: usize },
    /// What was found, and what to do about it.
    #[error("{0}")]
    NotReady(Finding),
    #[error("the token would be refused")]
    TokenRefused,
    #[error("there is no token: pipe one in, or name a file that holds one")]
    NoToken,
    #[error("cannot read {}: {source}", .path.display())]
    TokenFile { path: PathBuf, source: std::io::Error },
    #[error("cannot read standard input: {0}")]
    Input(std::io::Error),
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
    #[error("no runtime: {0}")]
    Runtime(std::io::Error),
}

impl CliError {
    pub fn exit_code(&self) -> ExitCode {
        const FAILED: u8 = 1;
        const USAGE: u8 = 2;
        const CONFIG: u8 = 3;
        const MODEL: u8 = 4;
        /// What a shell reports of a program that SIGINT ended.
        const INTERRUPTED: u8 = 130;
        ExitCode::from(match self {
            Self::Config(_) | Self::Refused { .. } | Self::NoDocsIndex => CONFIG,
            Self::Serve(error) => match error {
                ServeError::Load { .. } | ServeError::Device(_) | ServeError::Memory(_) | ServeError::Catalog(_) => {
                    MODEL
                }
                ServeError::KeyFileUnreadable { .. }
                | ServeError::KeyFileTooLarge { .. }
                | ServeError::KeyFile { .. }
                | ServeError::Key { .. }
                | ServeError::Keys(_)
                | ServeError::Routes(_)
                | ServeError::Route { .. }
                | ServeError::NoSuchLane { .. }
                | ServeError::NoInfillCard { .. }
                | ServeError::Credentials { .. }
                | ServeError::NoProject { .. }
                | ServeError::OwnKeys(_)
                | ServeError::GitlabAuth(_)
                | ServeError::Egress(_)
                | ServeError::AllowList(_)
                | ServeError::GpuLimit { .. }
                | ServeError::Tls(_) => CONFIG,
                ServeError::PortTaken { .. }
                | ServeError::Listen { .. }
                | ServeError::Metrics(_)
                | ServeError::Runtime(_)
                | ServeError::Signals(_)
                | ServeError::Banner(_) => FAILED,
            },
            Self::Bench(error) => match error {
                BenchError::Interrupted => INTERRUPTED,
                BenchError::ContextTooLong { .. } | BenchError::Zero { .. } | BenchError::Batch { .. } => USAGE,
                BenchError::Memory { .. }
                | BenchError::Checkpoint(_)
                | BenchError::Spec { .. }
                | BenchError::Load(_)
                | BenchError::Cache(_) => MODEL,
                BenchError::Gpu(_) | BenchError::Step(_) | BenchError::Sample(_) => FAILED,
            },
            Self::BenchServe(error) => match error {
                ServeBenchError::Interrupted => INTERRUPTED,
                ServeBenchError::Targets { .. }
                | ServeBenchError::Zero { .. }
                | ServeBenchError::Load { .. }
                | ServeBenchError::NoChats { .. } => USAGE,
                ServeBenchError::Egress(_)
                | ServeBenchError::NoModels { .. }
                | ServeBenchError::Address { .. }
                | ServeBenchError::NeverAnswers { .. } => FAILED,
            },
            Self::Cursor(CursorError::Syntax { .. } | CursorError::Zero { .. })
            | Self::WhichModel { .. }
            | Self::NoSuchModel { .. }
            | Self::Key(_)
            | Self::NoToken
            | Self::NothingAsked => USAGE,
            Self::Cursor(_)
            | Self::Generate(_)
            | Self::Import(_)
            | Self::Search(_)
            | Self::ExportNothing
            | Self::ExportFormat { .. }
            | Self::ChecksFailed { .. }
            | Self::NotReady(_)
            | Self::TokenRefused
            | Self::TokenFile { .. }
            | Self::ReportFile { .. }
            | Self::RequestsFailed { .. }
            | Self::QuestionTooLarge { .. }
            | Self::Input(_)
            | Self::Output(_)
            | Self::Runtime(_) => FAILED,
        })
    }
}
