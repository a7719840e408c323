//! Where a connection was going before the system redirected it here: netfilter's `REDIRECT`, IPv4
//! and IPv6.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

/// Where it was going.
///
/// # Errors
/// It was not redirected: it was going here, and going on would lead here again.
pub(super) fn destination(socket: &TcpStream) -> io::Result<SocketAddr> {
    let own = socket.local_addr()?;
    let own = SocketAddr::new(own.ip().to_canonical(), own.port());
    match original(socket, own) {
        Ok(original) if original != own => Ok(original),
        _ => Err(io::Error::other(format!(
            "it came straight to {own}, and was not redirected"
        ))),
    }
}

#[cfg(target_os = "linux")]
fn original(socket: &TcpStream, own: SocketAddr) -> io::Result<SocketAddr> {
    use rustix::net::sockopt::{ip_original_dst, ipv6_original_dst};
    Ok(match own {
        SocketAddr::V4(_) => ip_original_dst(socket)?.into(),
        SocketAddr::V6(_) => ipv6_original_dst(socket)?.into(),
    })
}

#[cfg(not(target_os = "linux"))]
fn original(_: &TcpStream, own: SocketAddr) -> io::Result<SocketAddr> {
    Ok(own)
}
