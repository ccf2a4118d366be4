//! `GET /v1/models` and `GET /v1/models/{name}`.

use crate::domain::ModelInfo;
use crate::wire::openai::{Model, ModelCard, ModelList};

pub fn model_list<'a>(models: impl Iterator<Item = &'a ModelInfo>) -> Vec<u8> {
    let list = ModelList { object: "list", data: models.map(entry).collect() };
    serde_json::to_vec(&list).expect("a list of models holds only strings and numbers")
}

pub fn model(info: &ModelInfo) -> Vec<u8> {
    serde_json::to_vec(&entry(info)).expect("a model holds only strings and numbers")
}

fn entry(info: &ModelInfo) -> Model<'_> {
    Model {
        id: &info.name,
        object: "model",
        created: info.created,
        owned_by: "sconce",
        sconce: ModelCard {
            architecture: &info.architecture,
            context_tokens: info.context_tokens,
            parameters: info.parameters,
            infill: info.has_infill,
            chat: info.has_chat,
        },
    }
}
