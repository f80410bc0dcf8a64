//! How full a socket's send buffer is, as the kernel itself says: the second witness of the probes.

use std::fs;
use std::io;

/// Bytes that unsent messages occupy, of the socket with that inode: column Wmem of
/// `/proc/net/<table>`, which is sk_wmem_alloc without its bias.
///
/// Kernel: net/bluetooth/af_bluetooth.c bt_seq_show().
///
/// # Errors
/// There is no such table, or no such socket in it.
pub(crate) fn occupied(table: &str, inode: u64) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/net/{table}"))?;
    find(&text, inode).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Columns: sk RefCnt Rmem Wmem User Inode Parent.
fn find(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let rows = table.lines().skip(1);
    let mut columns = rows.map(|row| row.split_ascii_whitespace().collect::<Vec<_>>());
    let row = columns.find(|columns| columns.get(5) == Some(&inode.as_str()))?;
    row.get(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::find;

    /// Check that the column of the right socket is read.
    #[test]
    fn find_in_table_takes_wmem_of_the_inode() {
        let table = "sk               RefCnt Rmem   Wmem   User   Inode  Parent\n\
                     000000001c9a7d3a 3      0      2304   0      1234   0     \n\
                     00000000aa9a7d3a 3      0      768    0      77     1234  \n";
        assert_eq!(find(table, 77), Some(768));
        assert_eq!(find(table, 1234), Some(2304));
        assert_eq!(find(table, 0), None);
    }
}
