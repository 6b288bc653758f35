//! Events: a struct for each one's data, and one enum over all.

use super::{object, outer_doc};
use crate::names::camel;
use crate::{Data, Definition, DefinitionKind, Error, Event, Schema};

/// The struct of an event's data, where the schema does not name one.
pub(crate) fn data(schema: &Schema, definition: &Definition, event: &Event) -> Result<String, Error> {
    match &event.data {
        Data::Members(members) if !members.is_empty() => {
            let mut documented = definition.clone();
            let text = format!("Data of event `{}`.\n\n{}", definition.name, definition.doc.overview);
            documented.doc.overview = text.trim_end().to_string();
            object::structure(
                schema,
                &camel(&definition.name),
                &documented,
                &members.iter().collect::<Vec<_>>(),
            )
        }
        _ => Ok(String::new()),
    }
}

/// The enum `Event`.
pub(crate) fn enumeration(schema: &Schema) -> String {
    let (mut variants, mut names, mut datas) = (String::new(), String::new(), String::new());
    for definition in &schema.definitions {
        let DefinitionKind::Event(event) = &definition.kind else { continue };
        let variant = camel(&definition.name);
        let carried = match &event.data {
            Data::Members(members) if !members.is_empty() => Some(variant.clone()),
            Data::Named(ty) => Some(camel(&ty.name)),
            _ => None,
        };
        variants.push_str(&outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name)));
        match carried {
            Some(carried) => {
                variants.push_str(&format!("{variant}({carried}),\n"));
                names.push_str(&format!("Self::{variant}(_) => \"{}\",\n", definition.name));
                datas.push_str(&format!("Self::{variant}(data) => Some(data.encode()),\n"));
            }
            None => {
                variants.push_str(&format!("{variant},\n"));
                names.push_str(&format!("Self::{variant} => \"{}\",\n", definition.name));
                datas.push_str(&format!("Self::{variant} => None,\n"));
            }
        }
    }
    format!(
        "/// Any event.\n#[derive(Debug, Clone, PartialEq)]\npub enum Event {{\n{variants}}}\n\nimpl Event {{\n\
         /// Its name on the wire.\npub fn name(&self) -> &'static str {{\nmatch self {{\n{names}}}\n}}\n\n\
         /// Its data, if it carries any.\npub fn data(&self) -> Option<Value> {{\nmatch self {{\n{datas}}}\n}}\n}}\n"
    )
}
