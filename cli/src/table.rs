//! Columns for people: as wide as their widest cell, two spaces apart, the last one free.

use crate::out;
use std::io;

/// A table that is printed whole.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&h| h.to_owned()).collect()],
        }
    }

    /// Adds a row; every cell is made [printable](out::printable).
    pub(crate) fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.rows
            .push(cells.iter().map(|cell| out::printable(cell)).collect());
    }

    /// Writes it.
    pub(crate) fn print(&self) -> io::Result<()> {
        for line in self.lines() {
            out::line(line)?;
        }
        Ok(())
    }

    fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = move |column: usize| {
            self.rows
                .iter()
                .filter_map(|r| r.get(column))
                .map(|c| c.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        self.rows.iter().map(move |row| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let gap = (width + 2).saturating_sub(cell.chars().count());
                line.extend(std::iter::repeat_n(' ', gap));
            }
            line.truncate(line.trim_end().len());
            line
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["AGENT", "STATUS"]);
        table.row(["research-agent", "active"]);
        table.row(["ü", "-"]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "AGENT           STATUS",
                "research-agent  active",
                "ü               -"
            ]
        );
    }
}
