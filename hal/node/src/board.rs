//! The board: its clock, its line, its start. One file for each board; another
//! board is another file with the same functions, and its memory map.

mod mps2_an386;

pub(crate) use mps2_an386::{
    Board, SETTINGS_BYTES_MAX, flush, has_lost_bytes, init_heap, now_us, reset,
};
