//! Tables in the house style: no frame, titles in bold, columns as wide as they must be.

use comfy_table::{Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Width, presets};

use crate::report::style::Tone;

/// Columns of the terminal on stdout, or what COLUMNS says; `None` where output is not for a terminal, and lines may
/// be as long as they are.
#[must_use]
pub fn terminal_width() -> Option<u16> {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok().filter(|columns| *columns >= 40);
    comfy_table::Table::new().width().or_else(columns)
}

/// A table under construction.
#[derive(Debug)]
pub struct Table {
    table: comfy_table::Table,
    titles: Vec<String>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// A table with these column titles, at most `width` columns wide.
    #[must_use]
    pub fn new(titles: &[&str], width: Option<u16>) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).enforce_styling().style_text_only();
        match width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.set_header(titles.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
        let titles: Vec<_> = titles.iter().map(|title| (*title).to_owned()).collect();
        let mut table = Self { table, titles, rows: Vec::new() };
        for index in 0..table.titles.len() {
            if let Some(column) = table.table.column_mut(index) {
                column.set_padding(if index == 0 { (2, 1) } else { (1, 1) });
            }
        }
        table
    }

    /// Keeps column `index` from being broken: it is as wide as its content.
    #[must_use]
    pub fn rigid(mut self, index: usize) -> Self {
        if let Some(column) = self.table.column_mut(index) {
            column.set_constraint(ColumnConstraint::ContentWidth);
        }
        self
    }

    /// Lets column `index` have at least `columns` columns.
    #[must_use]
    pub fn at_least(mut self, index: usize, columns: u16) -> Self {
        if let Some(column) = self.table.column_mut(index) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(columns)));
        }
        self
    }

    /// Adds a row. Line breaks in a cell are kept.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (Tone, String)>) {
        let cells: Vec<_> = cells.into_iter().collect();
        self.table.add_row(cells.iter().map(|(tone, text)| {
            let cell = Cell::new(text);
            match tone {
                Tone::Plain => cell,
                Tone::Title => cell.add_attribute(Attribute::Bold),
                Tone::Good => cell.fg(Color::DarkGreen),
                Tone::Bad => cell.fg(Color::DarkRed),
                Tone::Notice => cell.fg(Color::DarkYellow),
                Tone::Detail => cell.add_attribute(Attribute::Dim),
            }
        }));
        self.rows.push(cells);
    }

    /// The titles of its columns.
    #[must_use]
    pub fn titles(&self) -> &[String] {
        &self.titles
    }

    /// Its rows, for where a table is no lines of text.
    #[must_use]
    pub fn rows(&self) -> &[Vec<(Tone, String)>] {
        &self.rows
    }

    /// The table as text, lines without trailing blanks.
    #[must_use]
    pub fn render(&self) -> String {
        self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}
