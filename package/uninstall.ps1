<#
.SYNOPSIS
    Takes vroce off this machine. Nobody has run this script yet.
.DESCRIPTION
    Uninstalls the driver from every card, removes it from the driver store, looks for other drivers for the cards and says what the
    cards have then, and distrusts the certificate beside the script and those of earlier packages ("CN=vroce test signing"). Leaves test signing and Driver Verifier as they are, and says how to switch them off. Doing it
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
if ($LASTEXITCODE -eq 3010) { $restart = $true }
elseif ($LASTEXITCODE -ne 0) { Write-Host "pnputil /scan-devices ended with $LASTEXITCODE; restarting the machine looks for drivers, too" -ForegroundColor Yellow }
foreach ($device in @(Get-PnpDevice -PresentOnly | Where-Object { $_.InstanceId -match '^PCI\\VEN_1AF4&DEV_(1041|1000)' })) {
    $property = Get-PnpDeviceProperty -InstanceId $device.InstanceId -KeyName "DEVPKEY_Device_DriverInfPath" -ErrorAction SilentlyContinue
    $has = if ($property -and $property.Data) { $property.Data } else { "no driver" }
    Write-Host "$($device.FriendlyName): $has, $($device.Status) ($($device.InstanceId))"
}

$cer = Join-Path $here "vroce.cer"
$thumbprint = ""
if (Test-Path -LiteralPath $cer) { $thumbprint = (New-Object Security.Cryptography.X509Certificates.X509Certificate2($cer)).Thumbprint }
else { Write-Host "no vroce.cer beside this script: a certificate of your own is for you to distrust (certlm.msc)" -ForegroundColor Yellow }
foreach ($store in "Root", "TrustedPublisher") {
    $ours = @(Get-ChildItem "Cert:\LocalMachine\$store" | Where-Object {
            $_.Thumbprint -eq $thumbprint -or ($_.Subject -eq "CN=vroce test signing" -and $_.Issuer -eq $_.Subject)
        })
    $ours | Remove-Item
    Write-Host "certificates distrusted in ${store}: $($ours.Count)"
}

Write-Host "Left as they are: bcdedit /set testsigning off and verifier /reset switch them off, from the next start."
if ($failed) { exit 1 }
if ($restart) { Write-Host "UNINSTALLED. Restart the machine." } else { Write-Host "UNINSTALLED." }
