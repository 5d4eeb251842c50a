# What can be scripted of docs/windows.md: looks at a machine on which vroce is installed and writes vroce-report.txt. Changes nothing.
# Elevated PowerShell: .\testing-windows.ps1 [-Peer 10.0.0.2] [-Share \\server\share]
# Nobody has run it yet.
param(
    # Address of another machine to reach through the adapter.
    [string]$Peer,
    # A share on the other machine; a file of 1 GiB is copied there and removed again.
    [string]$Share,
    [string]$Report = "vroce-report.txt"
)
$ErrorActionPreference = "Continue"

function Section([string]$Title, [scriptblock]$Body) {
    "== $Title" | Tee-Object -FilePath $Report -Append
    try { & $Body *>&1 | Out-String -Width 200 | Tee-Object -FilePath $Report -Append }
    catch { "FAILED: $_" | Tee-Object -FilePath $Report -Append }
}

Remove-Item $Report -ErrorAction SilentlyContinue
$adapters = Get-NetAdapter | Where-Object InterfaceDescription -like "vroce*"

Section "System" { Get-CimInstance Win32_OperatingSystem | Select-Object Caption, Version, BuildNumber, OSArchitecture }
Section "Driver" { Get-CimInstance Win32_PnPSignedDriver | Where-Object DeviceName -like "vroce*" | Select-Object DeviceName, DriverVersion, InfName, IsSigned, Signer }
Section "Adapters" { $adapters | Format-List Name, InterfaceDescription, Status, LinkSpeed, MtuSize, MacAddress, DriverVersion }
Section "Advanced properties" { $adapters | Get-NetAdapterAdvancedProperty | Select-Object Name, DisplayName, DisplayValue }
Section "RDMA" { $adapters | Get-NetAdapterRdma | Format-List * }
Section "Global offload settings" { Get-NetOffloadGlobalSetting }
Section "SMB client interfaces" { Get-SmbClientNetworkInterface }
Section "SMB server interfaces" { Get-SmbServerNetworkInterface }
Section "Network Direct endpoints" { netstat.exe -xan }
Section "Driver Verifier" { verifier.exe /query }
Section "Event log" { Get-WinEvent -FilterHashtable @{ LogName = "System"; ProviderName = "vroce" } -MaxEvents 100 }
Section "Bug checks" { Get-WinEvent -FilterHashtable @{ LogName = "System"; Id = 1001 } -MaxEvents 10 | Format-List TimeCreated, Message }

if ($Peer) {
    Section "Ping" { Test-Connection $Peer -Count 10 }
}
if ($Share) {
    Section "Copy over SMB" {
        $file = Join-Path $env:TEMP "vroce-test.bin"
        $stream = [IO.File]::Create($file)
        $stream.SetLength(1GB)
        $stream.Close()
        $before = $adapters | Get-NetAdapterStatistics
        Measure-Command { Copy-Item $file $Share } | Select-Object TotalSeconds
        Get-SmbMultichannelConnection | Format-List *
        Get-Counter "\RDMA Activity(*)\*" -ErrorAction Continue | Select-Object -ExpandProperty CounterSamples
        $before, ($adapters | Get-NetAdapterStatistics) | Format-Table Name, SentBytes, ReceivedBytes
        Remove-Item $file, (Join-Path $Share "vroce-test.bin")
    }
}
"The report is in $Report."
