//! Tables: header, dashes, rows; columns two spaces apart, no borders.

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, Table};

use super::Out;
use crate::cli::failure::Failure;

/// Prints rows under a header. `headers` off prints the rows alone.
///
/// # Errors
/// See [`Out::line`].
pub fn print(
    out: &Out,
    header: &[&str],
    rows: &[Vec<String>],
    headers: bool,
) -> Result<(), Failure> {
    out.line(render(header, rows, headers))
}

pub(super) fn render(header: &[&str], rows: &[Vec<String>], headers: bool) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    if headers {
        table.add_row(header.iter().map(Cell::new));
        let dashes = header.iter().enumerate().map(|(column, title)| {
            let widest = rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max();
            Cell::new("-".repeat(widest.unwrap_or(0).max(title.len())))
        });
        table.add_row(dashes);
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| Cell::new(one_line(cell))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A cell stays on its line, whatever a label or a message holds.
fn one_line(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_and_two_spaces_apart() {
        let rows = vec![
            vec!["web".to_owned(), "Ready".to_owned()],
            vec!["longer-name".to_owned(), String::new()],
        ];
        let text = render(&["NAME", "STATE"], &rows, true);
        let want = "NAME         STATE\n-----------  -----\nweb          Ready\nlonger-name  -";
        assert_eq!(text, want);
        assert_eq!(render(&["NAME"], &[vec!["a\nb".into()]], false), "a b");
    }
}
