//! The values that a pickle makes. `decode` fills the graph, `write` walks it.
//!
//! Values refer to containers by number, since a pickle may refer to one container from many
//! places, from within itself too.

/// A value. What it refers to is in the [`Graph`] or in the pickle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'p> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond the range of `Int`.
    LargeInt(u64),
    /// A finite number.
    Float(f64),
    Str(&'p str),
    /// The number of a string in the graph, which the pickle has in an escaped form.
    Unescaped(usize),
    /// The number of a container.
    Container(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tuple,
    List,
    /// Its items are keys, each followed by its value. Keys are strings.
    Dict,
}

#[derive(Debug)]
pub(crate) struct Container<'p> {
    pub(crate) kind: Kind,
    pub(crate) items: Vec<Value<'p>>,
}

/// Everything that values refer to.
#[derive(Debug, Default)]
pub(crate) struct Graph<'p> {
    containers: Vec<Container<'p>>,
    strings: Vec<String>,
}

impl<'p> Graph<'p> {
    /// Adds a container. A dict must have strings for keys.
    pub(crate) fn add(&mut self, kind: Kind, items: Vec<Value<'p>>) -> Value<'p> {
        self.containers.push(Container { kind, items });
        Value::Container(self.containers.len() - 1)
    }

    pub(crate) fn add_string(&mut self, text: String) -> Value<'p> {
        self.strings.push(text);
        Value::Unescaped(self.strings.len() - 1)
    }

    /// The container of this kind that `value` refers to.
    pub(crate) fn container_mut(
        &mut self,
        value: Value<'p>,
        kind: Kind,
    ) -> Option<&mut Container<'p>> {
        let Value::Container(number) = value else { return None };
        self.containers.get_mut(number).filter(|container| container.kind == kind)
    }

    pub(crate) fn container(&self, number: usize) -> &Container<'p> {
        &self.containers[number]
    }

    pub(crate) fn containers_count(&self) -> usize {
        self.containers.len()
    }

    /// The text of a value that is a string.
    pub(crate) fn text(&self, value: Value<'p>) -> Option<&str> {
        match value {
            Value::Str(text) => Some(text),
            Value::Unescaped(number) => Some(&self.strings[number]),
            _ => None,
        }
    }
}
