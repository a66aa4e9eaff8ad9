//! An object for people: fields in columns, sections, and tables in them.

use super::{Out, table};
use crate::cli::failure::Failure;

/// Columns that what belongs to a section stands further in.
const INDENT: &str = "  ";

enum Part {
    Field(String, String),
    Section(String),
    Table(String),
    Line(String),
}

/// What is shown of one object.
#[derive(Default)]
pub struct Page {
    parts: Vec<Part>,
}

impl Page {
    /// A field with a value; one that is empty is left out.
    pub fn field(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.parts.push(Part::Field(name.to_owned(), value));
        }
    }

    /// Everything from here on belongs to this.
    pub fn section(&mut self, title: &str) {
        self.parts.push(Part::Section(title.to_owned()));
    }

    /// A section with a table; none without rows.
    pub fn table(&mut self, title: &str, header: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        self.section(title);
        let text = table::render(header, rows, true);
        self.parts.push(Part::Table(text));
    }

    /// A section with lines; none without any.
    pub fn lines(&mut self, title: &str, lines: impl IntoIterator<Item = String>) {
        let lines: Vec<String> = lines.into_iter().collect();
        if !lines.is_empty() {
            self.section(title);
            self.parts.extend(lines.into_iter().map(Part::Line));
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// See [`Out::line`].
    pub fn print(&self, out: &Out) -> Result<(), Failure> {
        out.line(self.text().trim_end())
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut indent = "";
        for (at, part) in self.parts.iter().enumerate() {
            match part {
                Part::Field(name, value) => {
                    let width = self.width_around(at);
                    let name = format!("{name}:");
                    for (n, line) in value.lines().enumerate() {
                        let name = if n == 0 { name.as_str() } else { "" };
                        let line = format!("{indent}{name:width$}  {}", clean(line));
                        out.push_str(line.trim_end());
                        out.push('\n');
                    }
                }
                Part::Section(title) => {
                    indent = INDENT;
                    out.push_str(&format!("{title}:\n"));
                }
                Part::Table(text) => {
                    for line in text.lines() {
                        out.push_str(&format!("{indent}{line}\n"));
                    }
                }
                Part::Line(line) => out.push_str(&format!("{indent}{}\n", clean(line))),
            }
        }
        out
    }

    /// Width of the names of the fields that stand together.
    fn width_around(&self, at: usize) -> usize {
        let field = |part: &Part| match part {
            Part::Field(name, _) => Some(name.chars().count() + 1),
            _ => None,
        };
        let before = self.parts[..at].iter().rev().map_while(field);
        let from = self.parts[at..].iter().map_while(field);
        before.chain(from).max().unwrap_or_default()
    }
}

/// Nothing of an object moves the cursor.
fn clean(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_block_needs() {
        let mut page = Page::default();
        page.field("Name", "web");
        page.field("Nothing", "");
        page.field("Created at", "now\u{1b}[2J");
        page.table("Cells", &["NAME"], &[]);
        page.section("Source");
        page.field("Path", "/srv\nand more");
        page.table(
            "Conditions",
            &["TYPE", "STATUS"],
            &[vec!["Ready".into(), "True".into()]],
        );
        page.lines("Uses", ["cell a".to_owned()]);
        assert_eq!(
            page.text(),
            "Name:        web\nCreated at:  now [2J\nSource:\n  Path:  /srv\n         and more\n\
             Conditions:\n  TYPE   STATUS\n  -----  ------\n  Ready  True\nUses:\n  cell a\n"
        );
    }
}
