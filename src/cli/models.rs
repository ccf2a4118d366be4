//! `sconce models`: what would be served, and what it would take. Reads headers, not weights.

use super::args::ModelsArgs;
use super::error::CliError;
use super::{output, quiet_config};
use crate::catalog::Catalog;
use crate::engine::{Abilities, Plan, human};
use crate::serve::{self, count};
use serde::Serialize;

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    architecture: String,
    parameters: u64,
    context_tokens: usize,
    infill: bool,
    chat: bool,
    weights_bytes: u64,
    kv_bytes: u64,
    kv_tokens: usize,
    workspace_bytes: u64,
    total_bytes: u64,
}

pub fn run(args: &ModelsArgs) -> Result<(), CliError> {
    let config = quiet_config(&args.engine, &args.flags())?;
    let catalog = Catalog::load(config.catalog.cards_dir.as_deref()).map_err(serve::ServeError::from)?;
    let mut rows = Vec::new();
    let device = serve::device(&config.engine)?;
    for wanted in serve::wanted(&config, &device) {
        let plan = serve::plan(wanted, &device)?;
        let abilities = plan
            .abilities(&catalog)
            .map_err(|source| serve::ServeError::Load { name: plan.name().to_owned(), source: Box::new(source) })?;
        rows.push(row(&plan, abilities));
    }
    if args.json {
        let json = serde_json::to_string_pretty(&rows).expect("rows are plain text and numbers");
        return Ok(output::print(&format!("{json}\n"))?);
    }
    Ok(output::print(&table(&rows))?)
}

fn row(plan: &Plan, abilities: Abilities) -> Row {
    let memory = plan.memory();
    Row {
        name: plan.name().to_owned(),
        architecture: plan.architecture().to_owned(),
        parameters: plan.parameters(),
        context_tokens: plan.context_tokens(),
        infill: abilities.infill,
        chat: abilities.chat,
        weights_bytes: memory.weights_bytes,
        kv_bytes: memory.kv_bytes,
        kv_tokens: memory.kv_tokens,
        workspace_bytes: memory.workspace_bytes,
        total_bytes: memory.total_bytes(),
    }
}

fn abilities(row: &Row) -> String {
    let named = [("complete", true), ("infill", row.infill), ("chat", row.chat)];
    named.iter().filter(|(_, can)| *can).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn table(rows: &[Row]) -> String {
    const TITLES: [&str; 9] =
        ["NAME", "ARCHITECTURE", "PARAMETERS", "CONTEXT", "CAN", "WEIGHTS", "KV CACHE", "WORKSPACE", "MEMORY"];
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            row.name.clone(),
            row.architecture.clone(),
            count(row.parameters),
            row.context_tokens.to_string(),
            abilities(row),
            human(row.weights_bytes),
            format!("{} ({} tokens)", human(row.kv_bytes), row.kv_tokens),
            human(row.workspace_bytes),
            human(row.total_bytes),
        ]
    }));
    let widths: Vec<usize> =
        (0..TITLES.len()).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
