//! What a guest's device is told: properties by name, as text.
use crate::error::MachineError;

/// Properties in the order given; of several of one name the last counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<(String, String)>);

impl Properties {
    /// The properties.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes a property out.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let value = self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        self.0.retain(|(other, _)| other != name);
        value
    }

    /// Takes a switch out: `on`, `yes`, `true`, `y`, or the contrary.
    pub fn take_flag(&mut self, name: &str) -> Result<Option<bool>, MachineError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_str() {
            "on" | "yes" | "true" | "y" => Ok(Some(true)),
            "off" | "no" | "false" | "n" => Ok(Some(false)),
            _ => Err(MachineError::Invalid(format!("Parameter '{name}' expects 'on' or 'off'"))),
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_values_the_last_counts_and_a_switch_is_on_or_off() {
        let mut given: Properties = [("a", "on"), ("b", "maybe"), ("a", "off")].into_iter().collect();
        assert_eq!(given.take_flag("a").ok(), Some(Some(false)));
        assert_eq!(given.take_flag("a").ok(), Some(None));
        assert_eq!(given.take_flag("b").unwrap_err().to_string(), "Parameter 'b' expects 'on' or 'off'");
        assert_eq!(given, Properties::default());
    }
}
