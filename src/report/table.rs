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
        let mut table = Self { table };
        for index in 0..titles.len() {
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
        self.table.add_row(cells.into_iter().map(|(tone, text)| {
            let cell = Cell::new_owned(text);
            match tone {
                Tone::Plain => cell,
                Tone::Title => cell.add_attribute(Attribute::Bold),
                Tone::Good => cell.fg(Color::DarkGreen),
                Tone::Bad => cell.fg(Color::DarkRed),
                Tone::Notice => cell.fg(Color::DarkYellow),
                Tone::Detail => cell.add_attribute(Attribute::Dim),
            }
        }));
    }

    /// The table as text, lines without trailing blanks.
    #[must_use]
    pub fn render(&self) -> String {
        self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}
