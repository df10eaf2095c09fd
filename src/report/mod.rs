//! What a user sees: documents for programs, tables for people. Decides nothing and exits nowhere.

pub mod area;
pub mod document;
pub mod export;
pub mod markup;
pub mod style;
pub mod table;
pub mod view;

pub use document::document;
