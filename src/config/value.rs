//! The tree that is decoded, whether it was YAML or JSON.
//!
//! It keeps what YAML's own tree would lose: keys that stand twice, and how a scalar was spelt.

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing stands there, or `null`.
    Null,
    /// With its spelling, as `Int` and `Float`.
    Bool(bool, String),
    Int(i128, String),
    Float(f64, String),
    Text(String),
    List(Vec<Value>),
    /// In order; a key may stand twice.
    Map(Vec<(String, Value)>),
    /// `!tag …`: nothing here has a use for it.
    Tagged(String),
}

/// What stands where a key is absent.
pub(super) static NOTHING: Value = Value::Null;

impl Value {
    /// A boolean, spelt the usual way.
    pub(super) fn bool(b: bool) -> Self {
        Self::Bool(b, b.to_string())
    }

    /// A whole number, spelt the usual way.
    pub(super) fn int(n: i128) -> Self {
        Self::Int(n, n.to_string())
    }

    /// Any other number, spelt the usual way.
    pub(super) fn float(n: f64) -> Self {
        Self::Float(n, n.to_string())
    }

    /// A scalar that is not between quotes: a boolean or a number where it looks like one.
    pub(super) fn unquoted(text: &str) -> Self {
        if let Ok(b) = text.parse() {
            return Self::Bool(b, text.to_owned());
        }
        if let Ok(n) = text.parse() {
            return Self::Int(n, text.to_owned());
        }
        // `inf` and `nan` are words.
        let number = text
            .bytes()
            .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
        match text.parse() {
            Ok(n) if number => Self::Float(n, text.to_owned()),
            _ => Self::Text(text.to_owned()),
        }
    }

    /// The first value of a key, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text that stands under a key.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The values of a list; none if it is no list.
    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// How messages call it: "found …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(_, spelt) => format!("{} (a boolean)", quoted(spelt)),
            Self::Int(_, spelt) | Self::Float(_, spelt) => format!("the number {}", shown(spelt)),
            Self::Text(text) if text.is_empty() => "an empty text".to_owned(),
            Self::Text(text) => quoted(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a map".to_owned(),
            Self::Tagged(tag) => format!("a value tagged {}", quoted(tag)),
        }
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::bool(*b),
            Json::Number(n) => match n.as_i128() {
                Some(n) => Self::int(n),
                None => Self::float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::Text(text.clone()),
            Json::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Json::Object(map) => {
                Self::Map(map.iter().map(|(k, v)| (k.clone(), v.into())).collect())
            }
        }
    }
}

/// In the words of the file. Of what stands twice, the first.
impl From<&Value> for serde_json::Value {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null | Value::Tagged(_) => Self::Null,
            Value::Bool(b, _) => Self::Bool(*b),
            Value::Int(_, spelt) | Value::Float(_, spelt) => {
                serde_json::from_str(spelt).unwrap_or_else(|_| spelt.as_str().into())
            }
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::from).collect(),
            Value::Map(entries) => {
                let entries = entries.iter().rev();
                Self::Object(entries.map(|(k, v)| (k.clone(), v.into())).collect())
            }
        }
    }
}

/// The most characters of a user's text that a message repeats.
const SHOWN: usize = 60;

/// A user's text as a message may repeat it: not too long, and nothing that a terminal obeys.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == SHOWN {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same between backticks.
pub(super) fn quoted(text: &str) -> String {
    format!("`{}`", shown(text))
}

/// Words between backticks, with commas.
pub(super) fn quoted_list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().map(quoted).collect();
    words.join(", ")
}
