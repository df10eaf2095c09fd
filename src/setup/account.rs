//! Users and groups, as profiles name them and as the kernel numbers them.
//!
//! A plan is made of facts alone, and who has which number is asked of the C library (files, LDAP, whatever
//! nsswitch.conf(5) says) and no file of the host. So [`look_up`] puts numbers to names before anything is planned.

use std::fmt;

use nix::unistd::{Group, User};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::goal::Goal;
use super::plan::PlanError;

/// A user or a group: a name, or a number. Reads and prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// As it was written.
    text: String,
    /// The number; of a name known only once it was looked up.
    number: Option<u32>,
}

impl Account {
    /// Its number, if it is one or was looked up.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.number
    }
}

impl From<&str> for Account {
    fn from(text: &str) -> Self {
        // The last number is the kernel's word for "leave it" (chown(2)).
        let number = text.parse().ok().filter(|number| *number != u32::MAX);
        Self { text: text.to_owned(), number }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.escape_debug().fmt(f)
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Account;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or a number")
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Account, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Account, E> {
                Err(E::custom(format!("`{number}` is neither a name nor a number of somebody")))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Account, E> {
                Ok(text.into())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Account {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Account".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A user or a group: its name or its number",
            "oneOf": [
                { "type": "integer", "minimum": 0, "maximum": u32::MAX - 1 },
                { "type": "string" }
            ]
        })
    }
}

/// `goal` with the numbers of all users and groups that it names.
///
/// # Errors
/// [`PlanError::Invalid`]: there is no such user or group, or the system's databases could not be asked.
pub fn look_up(mut goal: Goal) -> Result<Goal, PlanError> {
    let user = |name: &str| Ok(User::from_name(name)?.map(|user| user.uid.as_raw()));
    let group = |name: &str| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()));
    for access in &mut goal.access {
        if let Some(account) = &mut access.user {
            account.find("user", "useradd", user)?;
        }
        if let Some(account) = &mut access.group {
            account.find("group", "groupadd", group)?;
        }
    }
    for memlock in &mut goal.memlock {
        if let Some(account) = &mut memlock.user {
            account.find("user", "useradd", user)?;
        }
        if let Some(account) = &mut memlock.group {
            account.find("group", "groupadd", group)?;
        }
    }
    Ok(goal)
}

impl Account {
    fn find(
        &mut self,
        kind: &str,
        maker: &str,
        ask: impl FnOnce(&str) -> nix::Result<Option<u32>>,
    ) -> Result<(), PlanError> {
        if self.number.is_some() {
            return Ok(());
        }
        self.number = ask(&self.text).map_err(|error| {
            PlanError::Invalid(format!("the number of {kind} `{self}` is not told: {error}"))
        })?;
        if self.number.is_some() {
            return Ok(());
        }
        Err(PlanError::Invalid(format!(
            "there is no {kind} `{self}` on this host; create it ({maker}), or name another one in `host.access`"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(yaml: &str) -> Goal {
        serde_json::from_value(serde_yaml::from_str(yaml).unwrap()).unwrap()
    }

    #[test]
    fn names_get_their_numbers_and_numbers_are_taken_as_they_are() {
        let goal = goal("access: [{select: {address: '01:00.0'}, user: root, group: 4242}]");

        let goal = look_up(goal).unwrap();

        let [access] = &goal.access[..] else { panic!("{goal:?}") };
        let numbers = [&access.user, &access.group].map(|account| account.as_ref().unwrap().number());
        assert_eq!(numbers, [Some(0), Some(4242)]);
        assert_eq!(access.user.as_ref().unwrap().to_string(), "root");
    }

    #[test]
    fn whoever_does_not_exist_is_named() {
        for (key, part) in
            [("user", "there is no user `no\\nsuch`"), ("group", "there is no group `no\\nsuch`")]
        {
            let yaml = format!("access: [{{select: {{address: '01:00.0'}}, {key}: \"no\\nsuch\"}}]");
            let error = look_up(goal(&yaml)).unwrap_err().to_string();
            assert!(error.starts_with(part), "{error}");
        }
    }
}
