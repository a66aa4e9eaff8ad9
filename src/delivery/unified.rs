//! Unified differences of two texts.

/// Lines of context around a change.
const CONTEXT: usize = 5;
/// Above this many cells of the table, lines are compared by position only.
const MOST: usize = 25_000_000;

/// One line of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'t> {
    Same(&'t str),
    Gone(&'t str),
    New(&'t str),
}

/// The difference in unified form; empty when there is none.
pub(super) fn diff(from: &str, to: &str, a: &str, b: &str) -> String {
    if a == b {
        return String::new();
    }
    let lines = compare(
        &a.lines().collect::<Vec<_>>(),
        &b.lines().collect::<Vec<_>>(),
    );
    let mut out = format!("--- {from}\n+++ {to}\n");
    let changed: Vec<usize> = (0..lines.len())
        .filter(|i| !matches!(lines[*i], Line::Same(_)))
        .collect();
    let mut next = 0;
    while next < changed.len() {
        let start = changed[next].saturating_sub(CONTEXT);
        let mut end = changed[next];
        while next < changed.len() && changed[next] <= end + 2 * CONTEXT {
            end = changed[next];
            next += 1;
        }
        hunk(
            &lines,
            start,
            (end + CONTEXT + 1).min(lines.len()),
            &mut out,
        );
    }
    out
}

fn hunk(lines: &[Line<'_>], start: usize, end: usize, out: &mut String) {
    let old = |part: &[Line<'_>]| part.iter().filter(|l| !matches!(l, Line::New(_))).count();
    let new = |part: &[Line<'_>]| part.iter().filter(|l| !matches!(l, Line::Gone(_))).count();
    let (before, part) = (&lines[..start], &lines[start..end]);
    out.push_str(&format!(
        "@@ -{},{} +{},{} @@\n",
        old(before) + 1,
        old(part),
        new(before) + 1,
        new(part)
    ));
    for line in part {
        let (mark, text) = match line {
            Line::Same(text) => (' ', text),
            Line::Gone(text) => ('-', text),
            Line::New(text) => ('+', text),
        };
        out.push(mark);
        out.push_str(text);
        out.push('\n');
    }
}

/// The longest common subsequence, after equal beginnings and ends.
fn compare<'t>(a: &[&'t str], b: &[&'t str]) -> Vec<Line<'t>> {
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a_rest, b_rest) = (&a[front..], &b[front..]);
    let back = a_rest
        .iter()
        .rev()
        .zip(b_rest.iter().rev())
        .take_while(|(x, y)| x == y)
        .count();
    let (x, y) = (
        &a_rest[..a_rest.len() - back],
        &b_rest[..b_rest.len() - back],
    );
    let mut out: Vec<Line<'t>> = a[..front].iter().map(|l| Line::Same(l)).collect();
    if x.len().saturating_mul(y.len()) > MOST {
        out.extend(x.iter().map(|l| Line::Gone(l)));
        out.extend(y.iter().map(|l| Line::New(l)));
    } else {
        middle(x, y, &mut out);
    }
    out.extend(a[a.len() - back..].iter().map(|l| Line::Same(l)));
    out
}

fn middle<'t>(x: &[&'t str], y: &[&'t str], out: &mut Vec<Line<'t>>) {
    let width = y.len() + 1;
    let mut table = vec![0u32; (x.len() + 1) * width];
    for i in (0..x.len()).rev() {
        for j in (0..y.len()).rev() {
            table[i * width + j] = match x[i] == y[j] {
                true => table[(i + 1) * width + j + 1] + 1,
                false => table[(i + 1) * width + j].max(table[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < x.len() || j < y.len() {
        if i < x.len() && j < y.len() && x[i] == y[j] {
            out.push(Line::Same(x[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == y.len()
            || (i < x.len() && table[(i + 1) * width + j] >= table[i * width + j + 1])
        {
            out.push(Line::Gone(x[i]));
            i += 1;
        } else {
            out.push(Line::New(y[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_come_with_their_surroundings() {
        let a: Vec<String> = (1..=30).map(|n| n.to_string()).collect();
        let mut b = a.clone();
        b[9] = "ten".to_owned();
        b.remove(27);
        let text = diff("a", "b", &a.join("\n"), &b.join("\n"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["--- a", "+++ b", "@@ -5,11 +5,11 @@"]);
        assert!(text.contains("\n-10\n+ten\n"), "{text}");
        assert!(text.contains("\n@@ -23,8 +23,7 @@\n"), "{text}");
        assert_eq!(diff("a", "b", "x\n", "x\n"), "");
    }
}
