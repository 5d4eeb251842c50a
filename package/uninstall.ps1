<#
.SYNOPSIS
    Takes vroce off this machine. Nobody has run this script yet.
.DESCRIPTION
    Uninstalls the driver from every card, removes it from the driver store, looks for other drivers for the cards, and distrusts the
    certificate beside the script. Leaves test signing and Driver Verifier as they are, and says how to switch them off. Doing it
    twice does no harm.
#>
[CmdletBinding()]
param()

Set-StrictMode -Version 2
$ErrorActionPreference = "Stop"
$here = Split-Path -Parent $MyInvocation.MyCommand.Path

$me = New-Object Security.Principal.WindowsPrincipal([Security.Principal.WindowsIdentity]::GetCurrent())
if (-not $me.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    Write-Host "NOT UNINSTALLED: run PowerShell as administrator" -ForegroundColor Red
    exit 1
}

$failed = $false
$restart = $false
$stored = @(Get-WindowsDriver -Online | Where-Object { (Split-Path -Leaf $_.OriginalFileName) -eq "vroce.inf" })
if ($stored.Count -eq 0) { Write-Host "the driver store has no vroce.inf" }
foreach ($driver in $stored) {
    Write-Host "removing $($driver.Driver), version $($driver.Version)"
    & pnputil.exe /delete-driver $driver.Driver /uninstall /force
    switch ($LASTEXITCODE) {
        0 { }
        3010 { $restart = $true }
        default {
            Write-Host "pnputil failed with $LASTEXITCODE; C:\Windows\INF\setupapi.dev.log says why" -ForegroundColor Red
            $failed = $true
        }
    }
}
# The cards get the best driver that is left, or none.
& pnputil.exe /scan-devices

$cer = Join-Path $here "vroce.cer"
if (Test-Path -LiteralPath $cer) {
    $thumbprint = (New-Object Security.Cryptography.X509Certificates.X509Certificate2($cer)).Thumbprint
    foreach ($store in "Root", "TrustedPublisher") {
        $path = "Cert:\LocalMachine\$store\$thumbprint"
        if (Test-Path $path) {
            Write-Host "distrusting vroce.cer in $store"
            Remove-Item $path
        }
    }
}

Write-Host "Left as they are: bcdedit /set testsigning off and verifier /reset switch them off, from the next start."
if ($failed) { exit 1 }
if ($restart) { Write-Host "UNINSTALLED. Restart the machine." } else { Write-Host "UNINSTALLED." }
