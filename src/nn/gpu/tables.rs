//! What changes from step to step, written by the host into page-locked memory and copied to the device in two pieces:
//! the rows, and the block tables.
//!
//! Everything lies at a fixed place, so that launches that read it can be recorded in a graph. Places that a step does
//! not use hold [`PAD`].

use kernels::gpu::{Buffer, Gpu, GpuError, HostBuffer, PAD};

/// Staging copies: one being written and two that may still be on their way.
const STAGES: usize = 3;
/// Parts start at multiples of this many entries, sixteen bytes.
const ALIGNMENT: usize = 4;
/// Entries of a tile of query rows and of a block to copy.
pub(super) const TILE_ENTRIES: usize = 4;
const COPY_ENTRIES: usize = 3;

/// The largest step that tables are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablesLayout {
    pub rows: usize,
    /// Tiles of query rows.
    pub tiles: usize,
    pub sampled: usize,
    /// Blocks copied before the step.
    pub copies: usize,
    /// Entries of all block tables together.
    pub table_entries: usize,
}

/// How much of the tables a step uses; what a recorded graph is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Rows computed, padded ones included.
    pub rows: usize,
    /// Entries of the row list, whose rows attend one by one.
    pub listed: usize,
    /// Tiles of rows that attend together.
    pub tiles: usize,
    /// Rows that yield logits.
    pub sampled: usize,
    /// Whether the sampled rows are all rows in their order.
    pub samples_all: bool,
    /// Pieces into which the longest context of a listed row is split.
    pub splits: usize,
}

/// The tables of one kind of step, on both sides.
pub struct StepTables {
    layout: TablesLayout,
    rows: [HostBuffer<u32>; STAGES],
    tables: [HostBuffer<u32>; STAGES],
    stage: usize,
    on_device: Buffer<u32>,
    known: Buffer<u32>,
    from_rows: Buffer<u32>,
    pub(super) positions: Buffer<u32>,
    pub(super) slots: Buffer<u32>,
    /// Where the block table of a row's sequence starts.
    pub(super) table_starts: Buffer<u32>,
    pub(super) row_list: Buffer<u32>,
    /// `[tiles, 4]`: first row, rows, first position, start of the block table.
    pub(super) tiles: Buffer<u32>,
    pub(super) sampled_rows: Buffer<u32>,
    state_rows: Buffer<u32>,
    copies: Buffer<u32>,
    pub(super) block_tables: Buffer<u32>,
}

/// The host's side of one step, all [`PAD`] at first.
pub struct HostTables<'a> {
    pub known: &'a mut [u32],
    pub from_rows: &'a mut [u32],
    pub positions: &'a mut [u32],
    pub slots: &'a mut [u32],
    pub table_starts: &'a mut [u32],
    pub row_list: &'a mut [u32],
    pub tiles: &'a mut [[u32; TILE_ENTRIES]],
    pub sampled_rows: &'a mut [u32],
    pub state_rows: &'a mut [u32],
    pub copies: &'a mut [[u32; COPY_ENTRIES]],
    pub block_tables: &'a mut [u32],
}

impl TablesLayout {
    /// Entries of the parts that describe rows, in the order of [`HostTables`].
    fn parts(self) -> [usize; 10] {
        let Self { rows, tiles, sampled, copies, .. } = self;
        [rows, rows, rows, rows, rows, rows, tiles * TILE_ENTRIES, sampled, sampled, copies * COPY_ENTRIES]
            .map(|entries| entries.next_multiple_of(ALIGNMENT))
    }

    fn row_entries(self) -> usize {
        self.parts().iter().sum()
    }

    /// Device memory of the tables.
    #[must_use]
    pub fn bytes(self) -> u64 {
        ((self.row_entries() + self.table_entries) * size_of::<u32>()) as u64
    }
}

impl StepTables {
    pub fn new(gpu: &Gpu, layout: TablesLayout) -> Result<Self, GpuError> {
        let row_entries = layout.row_entries();
        let on_device = gpu.zeroed::<u32>(row_entries)?;
        let mut start = 0;
        let mut parts = layout.parts().into_iter();
        let mut part = |entries: usize| {
            let part = on_device.part(start, entries);
            start += parts.next().expect("ten parts");
            part
        };
        let TablesLayout { rows, tiles, sampled, copies, table_entries } = layout;
        Ok(Self {
            layout,
            rows: stages(gpu, row_entries)?,
            tables: stages(gpu, table_entries)?,
            stage: 0,
            known: part(rows),
            from_rows: part(rows),
            positions: part(rows),
            slots: part(rows),
            table_starts: part(rows),
            row_list: part(rows),
            tiles: part(tiles * TILE_ENTRIES),
            sampled_rows: part(sampled),
            state_rows: part(sampled),
            copies: part(copies * COPY_ENTRIES),
            block_tables: gpu.zeroed(table_entries)?,
            on_device,
        })
    }

    /// `[rows]`: token of each row, [`PAD`] where it is the last sample of a state row.
    #[must_use]
    pub fn known(&self) -> &Buffer<u32> {
        &self.known
    }

    /// `[rows]`: state row whose last sample is the token.
    #[must_use]
    pub fn from_rows(&self) -> &Buffer<u32> {
        &self.from_rows
    }

    /// `[sampled]`: state row of each sampled row.
    #[must_use]
    pub fn state_rows(&self) -> &Buffer<u32> {
        &self.state_rows
    }

    /// `[copies, 3]`: blocks to copy before the step.
    #[must_use]
    pub fn copies(&self) -> &Buffer<u32> {
        &self.copies
    }

    #[must_use]
    pub fn layout(&self) -> TablesLayout {
        self.layout
    }

    /// Writes the tables of the next step and starts their copy. `write` returns how many entries of the block tables
    /// it used.
    pub fn write(&mut self, gpu: &Gpu, write: impl FnOnce(HostTables<'_>) -> usize) -> Result<(), GpuError> {
        self.stage = (self.stage + 1) % STAGES;
        let rows = &mut self.rows[self.stage];
        let tables = &mut self.tables[self.stage];
        let row_entries = rows.len();
        let used = write(HostTables::new(self.layout, rows.values_mut()?, tables.values_mut()?));
        gpu.send(rows, &mut self.on_device, 0, row_entries)?;
        gpu.send(tables, &mut self.block_tables, 0, used)
    }
}

fn stages(gpu: &Gpu, entries: usize) -> Result<[HostBuffer<u32>; STAGES], GpuError> {
    Ok([gpu.host_buffer(entries)?, gpu.host_buffer(entries)?, gpu.host_buffer(entries)?])
}

impl<'a> HostTables<'a> {
    fn new(layout: TablesLayout, rows: &'a mut [u32], block_tables: &'a mut [u32]) -> Self {
        rows.fill(PAD);
        let mut rest = rows;
        let mut sizes = layout.parts().into_iter();
        let mut part = |entries: usize| {
            let size = sizes.next().expect("ten parts");
            let (part, behind) = std::mem::take(&mut rest).split_at_mut(size);
            rest = behind;
            &mut part[..entries]
        };
        let TablesLayout { rows, tiles, sampled, copies, .. } = layout;
        Self {
            known: part(rows),
            from_rows: part(rows),
            positions: part(rows),
            slots: part(rows),
            table_starts: part(rows),
            row_list: part(rows),
            tiles: part(tiles * TILE_ENTRIES).as_chunks_mut().0,
            sampled_rows: part(sampled),
            state_rows: part(sampled),
            copies: part(copies * COPY_ENTRIES).as_chunks_mut().0,
            block_tables,
        }
    }
}

impl std::fmt::Debug for StepTables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepTables").field("layout", &self.layout).finish_non_exhaustive()
    }
}
