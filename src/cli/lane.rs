//! One model in this process, for the verbs that need no server: chosen, loaded, asked.

use super::args::{EngineArgs, model_flag, split_model};
use super::error::CliError;
use super::output;
use super::{quiet_config, resolve};
use crate::catalog::Catalog;
use crate::config::{Config, EMBEDDED_NAME};
use crate::device::Device;
use crate::domain::{Event, GenerateError, Job, Usage};
use crate::engine::Engine;
use crate::serve::{self, Wanted};
use futures::StreamExt as _;
use std::path::Path;
use std::time::Duration;

/// Who waits at a terminal decides alone how long; the server's deadlines are about many.
pub const DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Loads the one model that `model` or the configuration names.
pub fn load(engine: &EngineArgs, model: Option<&str>) -> Result<Engine, CliError> {
    let mut flags = engine.flags();
    let mut chosen = model.map(str::to_owned);
    if let Some(model) = model {
        let is_path = model.contains('=') || (!is_configured(engine, model) && Path::new(model).exists());
        if is_path {
            flags.push(model_flag(model));
            chosen = Some(split_model(model).0);
        }
    }
    let config = quiet_config(engine, &flags)?;
    let device = serve::device(&config.engine)?;
    let wanted = choose(serve::wanted(&config, &device), chosen)?;
    load_one(&config, wanted, &device)
}

fn is_configured(engine: &EngineArgs, model: &str) -> bool {
    model == EMBEDDED_NAME
        || resolve(engine, &[]).config.is_ok_and(|config| config.models.iter().any(|known| known.name == model))
}

fn choose(mut wanted: Vec<Wanted>, model: Option<String>) -> Result<Wanted, CliError> {
    let names = |wanted: &[Wanted]| wanted.iter().map(|wanted| wanted.options.name.clone()).collect();
    let index = match model {
        Some(model) => match wanted.iter().position(|wanted| wanted.options.name == model) {
            Some(index) => index,
            None => return Err(CliError::NoSuchModel { asked: model, names: names(&wanted) }),
        },
        None if wanted.len() > 1 => return Err(CliError::WhichModel { names: names(&wanted) }),
        None => 0,
    };
    Ok(wanted.swap_remove(index))
}

fn load_one(config: &Config, wanted: Wanted, device: &Device) -> Result<Engine, CliError> {
    let catalog = Catalog::load(config.catalog.cards_dir.as_deref()).map_err(serve::ServeError::from)?;
    let plan = serve::plan(wanted, device)?;
    let mut engines = serve::load(vec![plan], &catalog, &prometheus::Registry::new())?;
    Ok(engines.pop().expect("one plan gives one engine"))
}

/// An answer that was printed as it came.
#[derive(Debug)]
pub struct Answer {
    pub text: String,
    pub usage: Usage,
}

/// Asks and prints; ends the answer early when whoever reads it goes away.
pub async fn ask(engine: &Engine, job: Job, is_terminal: bool) -> Result<Answer, CliError> {
    let mut events = engine.handle().generate(job);
    let mut answer = Answer { text: String::new(), usage: Usage::default() };
    while let Some(event) = events.next().await {
        match event? {
            Event::Taken(_) | Event::Started { .. } => {}
            Event::Text { text, .. } => {
                output::print(&if is_terminal { output::without_controls(&text) } else { text.clone() })?;
                answer.text.push_str(&text);
            }
            Event::Finished { usage, .. } => {
                answer.usage = usage;
                return Ok(answer);
            }
        }
    }
    Err(GenerateError::StepFailed { reason: "the answer ended without an end".to_owned() }.into())
}
