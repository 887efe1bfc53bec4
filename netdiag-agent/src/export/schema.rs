//! `netdiag schema`: the JSON Schema of a verdict line, generated from its types.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};

use super::record::FlowVerdict;

/// The schema, draft 2020-12.
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .with_transform(RecursiveTransform(AbsentNotNull))
        .into_generator()
        .into_root_schema_for::<FlowVerdict>()
}

/// The schema as text for a terminal or a file.
pub fn pretty() -> serde_json::Result<String> {
    serde_json::to_string_pretty(&schema())
}

/// What is unknown is absent: an optional field never holds `null`.
#[derive(Clone, Debug)]
struct AbsentNotNull;

impl Transform for AbsentNotNull {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(serde_json::Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        let Some(serde_json::Value::Array(choices)) = object.get_mut("anyOf") else {
            return;
        };
        choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
        if choices.len() == 1
            && let Some(serde_json::Value::Object(only)) = choices.pop()
        {
            object.remove("anyOf");
            object.extend(only);
        }
    }
}
