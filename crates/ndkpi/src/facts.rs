//! Test support.
pub(crate) struct Field {
    pub name: &'static str,
    pub ty: &'static str,
    pub offset: usize,
    pub size: usize,
}
pub(crate) struct Layout {
    pub name: &'static str,
    pub size: usize,
    pub fields: &'static [Field],
}
pub(crate) struct Constant {
    pub name: &'static str,
    pub value: i128,
    pub bits: u32,
}
