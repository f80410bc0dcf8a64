//! The format of Debian's indices: stanzas of `Field: value` lines, apart by empty lines.

/// The fields of one stanza.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stanza<'a>(&'a str);

/// The stanzas of a file.
pub(crate) fn stanzas(text: &str) -> impl Iterator<Item = Stanza<'_>> {
    text.split("\n\n")
        .filter(|stanza| !stanza.trim().is_empty())
        .map(Stanza)
}

impl<'a> Stanza<'a> {
    /// A file that is one stanza.
    pub(crate) fn of(text: &'a str) -> Self {
        Self(text)
    }

    /// The value of the field `name`, the first line only.
    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        self.lines_from(name)?.next()
    }

    /// The lines that continue the field `name`, without their indentation.
    pub(crate) fn continued(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.lines_from(name).into_iter().flatten().skip(1)
    }

    fn lines_from(self, name: &str) -> Option<impl Iterator<Item = &'a str>> {
        let mut lines = self.0.lines();
        let first = lines.by_ref().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            (field.eq_ignore_ascii_case(name)).then_some(value.trim())
        })?;
        let continued = lines
            .take_while(|line| line.starts_with([' ', '\t']))
            .map(str::trim);
        Some(std::iter::once(first).chain(continued))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Package: a\nDescription: one\n Package: not a field\n two\nSize: 7\n\n\nPackage: b\nSHA256:\n x 1 p\n y 2 q\n";

    /// Check that fields, continued fields and stanzas come apart.
    #[test]
    fn stanzas_of_index_are_read() {
        let stanzas: Vec<Stanza<'_>> = stanzas(TEXT).collect();
        let [a, b] = stanzas.as_slice() else {
            panic!("two stanzas, got {stanzas:?}")
        };
        assert_eq!(
            (a.get("Package"), a.get("size"), a.get("SHA256")),
            (Some("a"), Some("7"), None)
        );
        assert_eq!(
            a.continued("Description").collect::<Vec<_>>(),
            ["Package: not a field", "two"]
        );
        assert_eq!(b.get("SHA256"), Some(""));
        assert_eq!(
            b.continued("SHA256").collect::<Vec<_>>(),
            ["x 1 p", "y 2 q"]
        );
    }

    proptest! {
        /// Check that no text makes the reader panic, and that a value is always a part of it.
        #[test]
        fn stanzas_of_any_text_do_not_panic(text in "[a-c: \n\té]{0,60}") {
            for stanza in stanzas(&text) {
                for value in stanza.get("a").into_iter().chain(stanza.continued("a")) {
                    prop_assert!(text.contains(value));
                }
            }
        }
    }
}
