//! Commands: argument types, one trait of handlers a section, and the dispatcher over all.

use super::{Options, object, outer_doc};
use crate::generate::types::rust_type;
use crate::names::{camel, snake};
use crate::{Command, Data, Definition, DefinitionKind, Error, Schema};

/// The trait of the handlers of a section.
pub(crate) fn trait_name(module: &str) -> String {
    format!("{}Commands", camel(module))
}

/// The struct of a command's arguments, where the schema does not name one.
pub(crate) fn arguments(
    schema: &Schema,
    definition: &Definition,
    command: &Command,
) -> Result<String, Error> {
    match &command.data {
        Data::Members(members) if !members.is_empty() && command.generate => {
            let mut documented = definition.clone();
            documented.doc.overview = format!("Arguments of `{}`.", definition.name);
            object::structure(
                schema,
                &argument_struct(&definition.name),
                &documented,
                &members.iter().collect::<Vec<_>>(),
            )
        }
        _ => Ok(String::new()),
    }
}

fn argument_struct(command: &str) -> String {
    format!("{}Arguments", camel(command))
}

/// The type that a handler takes, none if there is nothing to take.
fn argument_type(
    schema: &Schema,
    definition: &Definition,
    command: &Command,
) -> Result<Option<String>, Error> {
    if !command.generate {
        return Ok(Some("Dict".into()));
    }
    Ok(match &command.data {
        Data::Empty => None,
        Data::Members(members) if members.is_empty() => None,
        Data::Members(_) => Some(argument_struct(&definition.name)),
        Data::Named(ty) => Some(rust_type(schema, ty)?),
    })
}

fn return_type(schema: &Schema, command: &Command) -> Result<String, Error> {
    match &command.returns {
        _ if !command.generate => Ok("Value".into()),
        None => Ok("()".into()),
        Some(ty) => rust_type(schema, ty),
    }
}

/// The trait of a section's handlers; none if it has no commands.
pub(crate) fn section(
    schema: &Schema,
    module: &str,
    own: &[&Definition],
    options: &Options,
) -> Result<Option<String>, Error> {
    let mut methods = String::new();
    for definition in own {
        let DefinitionKind::Command(command) = &definition.kind else { continue };
        if options.answered_by_api.contains(&definition.name) {
            continue;
        }
        let arguments = argument_type(schema, definition, command)?;
        let arguments = arguments.map(|ty| format!(", arguments: {ty}")).unwrap_or_default();
        methods.push_str(&outer_doc(&definition.doc.overview, &format!("`{}`.", definition.name)));
        methods.push_str(&format!(
            "fn {}(&self{arguments}) -> impl Future<Output = Result<{}, QmpError>> + Send;\n\n",
            snake(&definition.name),
            return_type(schema, command)?
        ));
    }
    if methods.is_empty() {
        return Ok(None);
    }
    let name = trait_name(module);
    let doc = format!("/// The handlers of section `{module}`.\n");
    Ok(Some(format!(
        "{doc}pub trait {name}: Send + Sync {{\n{}}}\n",
        methods.trim_end_matches('\n').to_owned() + "\n"
    )))
}

/// `Handlers`, `COMMANDS` and `dispatch`.
pub(crate) fn dispatch(schema: &Schema, sections: &[String], options: &Options) -> Result<String, Error> {
    let (mut names, mut urgent, mut arms) = (String::new(), String::new(), String::new());
    for definition in &schema.definitions {
        let DefinitionKind::Command(command) = &definition.kind else { continue };
        let name = format!("\"{}\",\n", definition.name);
        names.push_str(&name);
        if command.allow_oob {
            urgent.push_str(&name);
        }
        arms.push_str(&arm(schema, definition, command, options)?);
    }
    let all = sections.join(" + ");
    Ok(format!(
        "\nuse crate::codec::{{Encode, NoArguments, run, run_raw}};\nuse crate::{{Dict, QmpError, Value}};\n\n\
         /// Every command, in the order of the schema.\npub const COMMANDS: &[&str] = &[\n{names}];\n\n\
         /// Those that can run while others are under way.\npub const OUT_OF_BAND: &[&str] = &[\n{urgent}];\n\n\
         /// The handlers of all sections.\npub trait Handlers: {all} {{}}\n\n\
         impl<T: {all}> Handlers for T {{}}\n\n\
         /// Runs a command: decodes its arguments, calls its handler, encodes the answer. `None`: success is not\n\
         /// answered.\n\
         pub async fn dispatch<H: Handlers>(\nhandlers: &H,\ncommand: &str,\narguments: Dict,\n\
         ) -> Result<Option<Value>, QmpError> {{\nmatch command {{\n{arms}\
         _ => Err(QmpError::command_not_found(command)),\n}}\n}}\n\n"
    ))
}

fn arm(
    schema: &Schema,
    definition: &Definition,
    command: &Command,
    options: &Options,
) -> Result<String, Error> {
    let method = snake(&definition.name);
    let ours = options.answered_by_api.contains(&definition.name);
    let call = if ours { format!("crate::introspect::{method}") } else { format!("handlers.{method}") };
    let run = if command.generate { "run" } else { "run_raw" };
    let silence = if command.success_response { "" } else { ".map(|_| None)" };
    let closure = match argument_type(schema, definition, command)? {
        Some(_) if ours => call,
        Some(_) => format!("|a| {call}(a)"),
        None => format!("|NoArguments {{}}| {call}()"),
    };
    Ok(format!("\"{}\" => {run}(arguments, {closure}).await{silence},\n", definition.name))
}
